#include "runner/report.h"
int er_report_write(const char *folder, er_err *err){(void)folder;(void)err;return 0;}
int er_report_compare(struct er_text *out, const char *const *folders, int64_t count, er_err *err){(void)out;(void)folders;(void)count;(void)err;return 0;}
