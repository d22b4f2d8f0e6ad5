/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "runner/bundle.h"
#include "runner/verbs.h"

#include <stdio.h>

static const er_flag flags[] = {
    {"to", "FILE", "the archive; default: NAME-HASH.tar in the working folder"},
    {"with-data", NULL, "the data file goes in, too (case ids, held-out and reference texts likewise), not its hash alone"},
    {"with-corpus", NULL, "the corpus file behind the statistics goes in, too"},
    {"with-stats", NULL, "the statistics that the run used go in, too, not their hashes alone"},
    {0},
};

static int call(er_world *w, const er_args *args, int *exit_code, er_err *err)
{
    const er_bundle_options options = {.data = er_args_get(args, "with-data") != NULL,
                                       .corpus = er_args_get(args, "with-corpus") != NULL,
                                       .stats = er_args_get(args, "with-stats") != NULL,
                                       .to = er_args_get(args, "to")};
    er_bundle_made made;
    char text[ER_HASH_TEXT];
    (void)exit_code;
    ER_TRY(er_bundle_write(&made, w, args->at[0], &options, err));
    er_hash_text(text, &made.content);
    printf("%s: content %s, %lld files, %lld bytes\n", made.path, text, (long long)made.files, (long long)made.bytes);
    er_free(made.path);
    return 0;
}

const er_verb er_verb_bundle = {"bundle", "RUN", "one archive of a run, for errata verify elsewhere", 1, 1, 0, 0, flags,
                                call};
