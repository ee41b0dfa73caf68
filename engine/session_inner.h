/* What the files of session share with each other and with nobody else. */
#ifndef WSR_SESSION_INNER_H
#define WSR_SESSION_INNER_H

#include "session.h"

/* A broken rule: what to close with, and the sentence for the close event. text NULL = none is broken. */
struct breach {
    uint16_t code;
    const char *text;
};

static const struct breach no_breach = { 0, NULL };

static inline struct breach breach_of(enum wsr_close_code code, const char *text)
{
    return (struct breach){ (uint16_t)code, text };
}

/* session.c */
/* UTF-01 to 05: @text goes on where the message's text so far has ended. */
struct breach wsr_session_judge_text(struct wsr_session *session, struct wsr_bytes text, bool is_end);

/* session_deflate.c */
/* A frame has RSV1 set: may it? PMD-40. */
struct breach wsr_session_judge_rsv1(const struct wsr_session *session, const struct wsr_frame *frame);
/* A frame of a compressed message has @more bytes; is_first: it begins the message. PMD-47. */
struct breach wsr_session_judge_deflated(const struct wsr_session *session, uint64_t more, bool is_first);
/* @piece is the next of a compressed message, which ends with it if @is_end. Then the message is the assembly, or, when
 * there is none, *data, perhaps empty. */
struct breach wsr_session_inflate(struct wsr_session *session, struct wsr_bytes piece, bool is_end,
                                  struct wsr_bytes *data);

#endif
