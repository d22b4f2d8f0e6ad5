/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tick.h"

#include <stdatomic.h>
#include <stddef.h>

static void (*on_tick)(void *);
static void *tick_context;
static void (*on_pulse)(void);
static atomic_uint_fast64_t ticks;
static _Atomic double patience;

void er_tick_set(void (*function)(void *context), void *context)
{
    on_tick = function;
    tick_context = context;
}

void er_tick_pulse(void (*function)(void)) { on_pulse = function; }

static void count(void)
{
    atomic_fetch_add_explicit(&ticks, 1, memory_order_relaxed);
    if (atomic_load_explicit(&patience, memory_order_relaxed) > 0)
        atomic_store_explicit(&patience, 0, memory_order_relaxed);
}

void er_tick(void)
{
    count();
    if (on_tick) on_tick(tick_context);
    if (on_pulse) on_pulse();
}

void er_tick_wait(void)
{
    count();
    if (on_pulse) on_pulse();
}

void er_tick_quiet(double seconds)
{
    er_tick();
    atomic_store_explicit(&patience, seconds > 0 ? seconds : 0, memory_order_relaxed);
    if (on_pulse) on_pulse();
}

uint64_t er_tick_count(double *quiet)
{
    *quiet = atomic_load_explicit(&patience, memory_order_relaxed);
    return atomic_load_explicit(&ticks, memory_order_relaxed);
}
