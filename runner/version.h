/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ER_RUNNER_VERSION_H
#define ER_RUNNER_VERSION_H

#define ER_VERSION "0.1.0"

#endif
