//! The line protocol's commands and answers, compatible with MPIM's clients.
