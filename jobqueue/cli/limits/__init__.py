"""The verbs about limits, `limits list | show | set | reset | recount`. `verbs.py` has their options."""
