"""The programs are run by themselves, not collected."""

collect_ignore = ["programs"]
