/* permessage-deflate of a connection, for the files of conn. */
#ifndef WSR_CONN_DEFLATE_H
#define WSR_CONN_DEFLATE_H

#include "conn_inner.h"

/* NULL when it was not agreed on. */
static inline struct wsr_deflate *wsr_conn_deflate(const struct wsr_conn *conn)
{
    return conn->marks & MARK_DEFLATES ? &conn->host->deflate_slots[conn - conn->host->slots] : NULL;
}

/* As was @agreed on: from now on messages may be compressed, both ways. */
void wsr_conn_start_deflate(struct wsr_conn *conn, const struct wsr_deflate_agreed *agreed);
/* Messages went through its streams: they have not rested. */
void wsr_conn_use_deflate(struct wsr_conn *conn);
void wsr_conn_end_deflate(struct wsr_conn *conn);

#endif
