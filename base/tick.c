/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tick.h"

#include <stddef.h>

static void (*on_tick)(void *);
static void *tick_context;

void er_tick_set(void (*function)(void *context), void *context)
{
    on_tick = function;
    tick_context = context;
}

void er_tick(void)
{
    if (on_tick) on_tick(tick_context);
}
