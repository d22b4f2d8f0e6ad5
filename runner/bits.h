/* SPDX-License-Identifier: Apache-2.0 */
/* Version of everything that decides the bits of targets, updates and scores. It enters the keys of ledgers, journals
 * and runs: results of another version are never mixed with ours. Raise it with any change of such bits. */
#ifndef ER_RUNNER_BITS_H
#define ER_RUNNER_BITS_H

enum { ER_BITS_VERSION = 1 };

#endif
