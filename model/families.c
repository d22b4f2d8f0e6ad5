/* SPDX-License-Identifier: Apache-2.0 */
/* Which families there are, and what their tables share. */
#include "model/families.h"

#include <stdio.h>
#include <string.h>

static const er_family *const families[] = {
    &er_family_llama,  &er_family_mistral, &er_family_qwen2, &er_family_qwen3, &er_family_smollm3,
    &er_family_olmo2,  &er_family_phi3,    &er_family_gpt2,  &er_family_gptj,  &er_family_opt,
    &er_family_phi,    &er_family_gpt_neox, &er_family_gemma, &er_family_gemma2, &er_family_gemma3,
};

const er_family *er_family_find(const char *name)
{
    for (size_t i = 0; i < ER_COUNT(families); i++)
        if (strcmp(families[i]->name, name) == 0) return families[i];
    return NULL;
}

const er_family *er_family_find_gguf(const char *architecture)
{
    for (size_t i = 0; i < ER_COUNT(families); i++)
        if (families[i]->gguf && strcmp(families[i]->gguf, architecture) == 0) return families[i];
    return NULL;
}

const char *er_family_names(void)
{
    return "llama, mistral, qwen2, qwen3, smollm3, olmo2, phi3, gpt2, gptj, opt, phi, gpt_neox, gemma, gemma2, gemma3_text";
}

const char *er_family_names_gguf(void) { return "llama, qwen2, qwen3, smollm3, olmo2, phi2, phi3, gpt2, gptneox, gemma, gemma2, gemma3"; }

er_config er_family_start(const er_family *family)
{
    er_config c = family->preset;
    snprintf(c.family, sizeof c.family, "%s", family->name);
    c.bos = c.eos = -1;
    return c;
}

int er_when_attention_bias(const er_config *c) { return c->attention_bias; }
int er_when_output_bias(const er_config *c) { return c->output_bias; }
int er_when_mlp_bias(const er_config *c) { return c->mlp_bias; }
int er_when_untied(const er_config *c) { return !c->tied; }

int64_t *er_field_int(const er_field *field, er_config *c) { return (int64_t *)(void *)((char *)c + field->offset); }

int *er_field_bool(const er_field *field, er_config *c) { return (int *)(void *)((char *)c + field->offset); }

double *er_field_real(const er_field *field, er_config *c) { return (double *)(void *)((char *)c + field->offset); }

static const struct activation {
    const char *name;
    enum er_activation kind;
} activations[] = {
    {"silu", ER_SILU},
    {"swish", ER_SILU},
    {"gelu", ER_GELU_ERF},
    {"gelu_python", ER_GELU_ERF},
    {"gelu_new", ER_GELU_TANH},
    {"gelu_fast", ER_GELU_TANH},
    {"gelu_pytorch_tanh", ER_GELU_TANH},
    {"relu", ER_RELU},
};

int er_activation_find(const char *name)
{
    for (size_t i = 0; i < ER_COUNT(activations); i++)
        if (strcmp(activations[i].name, name) == 0) return (int)activations[i].kind;
    return -1;
}

const char *er_activation_name(int activation)
{
    for (size_t i = 0; i < ER_COUNT(activations); i++)
        if ((int)activations[i].kind == activation) return activations[i].name;
    return "?";
}
