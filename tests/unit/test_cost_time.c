/* SPDX-License-Identifier: Apache-2.0 */
/* What runs when units share beginnings, by hand; times from rates, units as they are cut, messages between ranks. */
#include "tests/support.h"

#include "model/kernels.h"
#include "runner/cost_time.h"

#include <math.h>

static void near(double got, double want, const char *what)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want))) fail_msg("%s: %.17g, expected %.17g", what, got, want);
}

/* As test_cost.c's: matrices of a block 480, head 160; keys and values of a position 128 flop; a position that sees n costs
 * 32 n. */
static const char tiny[] = "{\"model_type\": \"mistral\", \"sliding_window\": null, \"hidden_size\": 8, "
                           "\"intermediate_size\": 12, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                           "\"num_hidden_layers\": 3, \"vocab_size\": 20, \"max_position_embeddings\": 64, "
                           "\"rope_theta\": 10000, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\", "
                           "\"tie_word_embeddings\": false}";
static const er_cost_texts texts = {.rows = 2, .prefix = 2, .prompt = 5, .subject = 3, .target = 2, .drift = 3};
static const int64_t both[] = {0, 1};
static const er_int_list layers = {2, both};

static er_config config(void)
{
    er_err err = ER_ERR_INIT;
    er_config c;
    OK(er_config_parse(&c, tiny, strlen(tiny), "tiny", &err));
    return c;
}

static void what_runs_by_hand(void **state)
{
    const er_config c = config();
    const er_cost_shared half = {.rows = 0.5, .before = 0.5, .keys = 0.5, .plain = 0.5, .scores = 0.5};
    (void)state;
    er_cost_target alone = er_cost_target_run(&c, 0, &texts, &er_cost_alone);
    /* layer 0 over whole rows; behind it block 1 before the subject, and of block 2 keys and values there */
    near(alone.once, 2 * (7 * 960 + 28 * 32) + (3 * 960 + 6 * 32) + 2 * (4 * 960 + 10 * 32) + 8 * 128 +
                         (2 * 960 + 3 * 32) + 2 * 128, "once");
    near(er_cost_target_run(&c, 0, &texts, &half).once,
         0.5 * (2 * (7 * 960 + 28 * 32) + (3 * 960 + 6 * 32)) + 4160 + 4 * 128 + 1008 + 128, "once, half shared");
    near(alone.loss, er_cost_target_of(&c, 0, &texts).loss, "a step is no text's beginning");
    assert_true(alone.once < er_cost_target_of(&c, 0, &texts).once);
    /* layer 0: the plain text whole, of the other its end; block 1 of the plain one; layer 1: two ends */
    near(er_cost_keys_run(&c, &layers, &texts, &er_cost_alone),
         6 * 128 + 4 * (960 + 5 * 32) + 2 * 128 + (960 + 3 * 32) +
             2 * (5 * 960 + 15 * 32) + 8 * 128 + 2 * (960 + 5 * 32), "keys");
    near(er_cost_score_run(&c, 4, 2, &er_cost_alone),
         2 * (4 * 960 + 10 * 32) + 2 * 128 + 2 * (960 + 4 * 32) + 2 * 320, "a scored prompt");
    near(er_cost_score_run(&c, 4, 2, &half), 4 * 960 + 10 * 32 + 2 * (960 + 4 * 32) + 2 * 320, "half of it shared");
}

static er_plan plan_of(const er_config *c, er_hyper *hyper)
{
    er_plan p = {.config = c, .hyper = hyper, .weights = ER_F32, .edits = 200, .batch = 100, .unit = 4, .texts = texts,
                 .shared = er_cost_alone, .prompts = 10, .prompt_tokens = 8, .prompt_heads = 2};
    er_err err = ER_ERR_INIT;
    *hyper = (er_hyper){.layers = layers, .v_num_grad_steps = 25};
    OK(er_editor_find(&p.editor, "alphaedit", &err));
    return p;
}

static void units_decide_times(void **state)
{
    const er_config c = config();
    er_hyper hyper;
    er_plan p = plan_of(&c, &hyper);
    er_machine m = er_machine_assumed();
    (void)state;
    m.read = 1e30;
    const double one = er_time_targets(&p, &m, 1), scores = er_time_scores(&p, &m, 4);
    assert_true(one > 0 && scores > 0);
    near(er_time_targets(&p, &m, 100), 100 * one, "one rank");
    m.takers = 4;
    near(er_time_targets(&p, &m, 100), 25 * one, "four ranks");
    near(er_time_keys(&p, &m, 100) / er_time_keys(&p, &m, 4), 25, "keys");
    m.takers = 8; /* 12 or 13 each, not 16 */
    near(er_time_targets(&p, &m, 100), 13 * one, "eight ranks");
    m.takers = 1000;
    near(er_time_targets(&p, &m, 100), one, "more ranks than edits");
    near(er_time_scores(&p, &m, 4000), scores, "scores have units of their own");
    m.products /= 2;
    near(er_time_targets(&p, &m, 100), 2 * one, "half the rate");
    m.read = 1; /* memory decides: once per unit and pass */
    near(er_time_targets(&p, &m, 100), 50 * (4 * 480 + 4 * 20 * 8), "read bound");
    hyper.early_stop = 0.05;
    near(er_time_targets(&p, &m, 100), 0.6 * 50 * (4 * 480 + 4 * 20 * 8), "stopped early");
}

static void messages_by_hand(void **state)
{
    const er_config c = config();
    er_hyper hyper;
    er_plan p = plan_of(&c, &hyper);
    er_machine m = er_machine_assumed();
    (void)state;
    er_messages x = er_time_messages(&p, &m, 100);
    near(x.units + x.collectives + x.seconds + 1, 1, "a rank alone sends nothing");
    m.takers = 2; /* 26 units, 13 away: their numbers and results, and an end, for targets and two layers' keys */
    x = er_time_messages(&p, &m, 100);
    near(x.units, 3 * (2 * 13 + 1), "messages of units");
    near(x.unit_bytes, 3 * (13 * (8 + 16) + 8) + 50 * (8 + 76 + 4 * 8 + 25 * sizeof(er_target_loss)) + 2 * 50 * 4 * 20,
         "their bytes");
    near(x.collectives, 10 + 2 * 12, "collectives");
    assert_true(x.collective_bytes > 100 * er_cost_update(&c, 2) && x.borders < 1);
    m.shards = 3;
    er_messages y = er_time_messages(&p, &m, 100);
    near(y.borders, 2 * 26 * (50 + 2 + 2), "borders");
    assert_true(y.seconds > x.seconds);
    er_times t = er_time_edits(&p, &m);
    near(t.messages, 2 * y.seconds, "all batches");
    near(t.all, t.targets + t.keys + t.solves + t.messages, "all");
}

static void rates_are_read(void **state)
{
    er_err err = ER_ERR_INIT;
    er_machine m = er_machine_assumed();
    (void)state;
    OK(er_machine_read(&m, "products=200,read=20.5,network=10,latency=2", &err));
    near(m.products, 200e9, "products");
    near(m.products64, 100e9, "fp64 follows");
    near(m.read, 20.5e9, "read");
    near(m.bandwidth, 10e9, "network");
    near(m.latency, 2e-6, "latency");
    OK(er_machine_read(&m, "core64=30,fp64=90", &err));
    near(m.core64, 30e9, "core64");
    near(m.products64, 90e9, "fp64");
    static const char *const bad[] = {"products", "products=0", "products=x", "speed=3", "read=-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(er_machine_read(&m, bad[i], &err), ER_E_USAGE);
        assert_non_null(strstr(err.text, "--rates"));
    }
}

static void rates_are_measured(void **state)
{
    const er_config c = config();
    er_err err = ER_ERR_INIT;
    er_machine m = {.latency = 7};
    (void)state;
    OK(er_machine_measure(&m, &c, 0.001, &err));
    assert_true(m.products > 0 && m.products64 > 0 && m.core64 > 0 && m.read > 0 && isfinite(m.products));
    near(m.latency, 7, "the network is nobody's to measure");
}

int main(void)
{
    if (er_kernels_start(NULL)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_runs_by_hand), cmocka_unit_test(units_decide_times), cmocka_unit_test(messages_by_hand),
        cmocka_unit_test(rates_are_read),    cmocka_unit_test(rates_are_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
