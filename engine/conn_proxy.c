/* The way through a proxy, between its TCP connection and the upgrade. What is said and heard is proxy.c's. */
#include "conn_inner.h"
#include "conn_tls.h"

#include <errno.h>

/* Say what the proxy is to hear now. Without memory the conn has failed. */
static void say(struct wsr_conn *c)
{
    if (!wsr_conn_say(c, wsr_proxy_message(wsr_conn_opening(c)->proxy)))
        wsr_conn_fail(c, WSR_STAGE_PROXY, ENOMEM, "no memory for the request to the proxy");
}

void wsr_conn_start_tunnel(struct wsr_conn *c)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    opening->proxy->head_max_bytes = c->host->sessions.limits.head_max_bytes;
    opening->proxy->interim_max = c->host->sessions.limits.interim_max;
    wsr_conn_enter(c, WSR_CONN_TUNNELING);
    wsr_timer_arm(c->host->wheel, &c->timer, opening->dial.deadline_ns);
    say(c);
}

/* Feed @buffer as far as the proxy speaks; what is behind that is the server's. The conn may have ended after it. */
void wsr_conn_feed_tunnel(struct wsr_conn *c, struct wsr_loan *buffer)
{
    const uint8_t *bytes = wsr_pool_bytes(buffer);
    while (c->state == WSR_CONN_TUNNELING && buffer->parsed < buffer->filled) {
        struct wsr_proxy_event event;
        size_t taken = wsr_proxy_feed(wsr_conn_opening(c)->proxy, bytes + buffer->parsed,
                                      buffer->filled - buffer->parsed, &event);
        assert(taken > 0);
        buffer->parsed += (uint32_t)taken;
        if (event.type == WSR_PROXY_SPEAK) {
            say(c);
        } else if (event.type == WSR_PROXY_STANDS) {
            wsr_conn_reached(c);
        } else if (event.type == WSR_PROXY_FAILURE) {
            c->end.http_status = event.http_status;
            wsr_conn_fail(c, WSR_STAGE_PROXY, 0, event.text);
        }
    }
}

void wsr_conn_tunnel_ended(struct wsr_conn *c)
{
    const char *text = "the connection to the proxy broke; system_errno says why";
    if (c->end_errno == 0)
        text = "the proxy ended the TCP connection before the tunnel stood; its log may say why";
    else if (c->end_errno == ECONNRESET)
        text = "the proxy reset the TCP connection before the tunnel stood";
    wsr_conn_fail(c, WSR_STAGE_PROXY, c->end_errno, text);
}

bool wsr_conn_needs_lookup(const struct wsr_conn *c)
{
    const struct wsr_opening *opening = wsr_conn_opening(c);
    bool wants_address = opening->proxy != NULL && wsr_proxy_wants_address(opening->proxy);
    return wants_address || opening->dial.addresses_count == 0;
}

bool wsr_conn_tell_proxy_address(struct wsr_conn *c)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    if (opening->proxy == NULL || !wsr_proxy_wants_address(opening->proxy))
        return false;
    wsr_proxy_set_address(opening->proxy, &opening->lookup.addresses[0]);
    memcpy(opening->lookup.host, opening->proxy->host, sizeof opening->lookup.host);
    opening->lookup.port = opening->proxy->port;
    return true;
}

const char *wsr_conn_proxy_dial_text(int system_errno)
{
    switch (system_errno) {
    case ECONNREFUSED:
        return "the proxy refused the connection: nothing listens at its address and port; check the proxy option";
    case ETIMEDOUT:
        return "no address of the proxy answered in time; check the proxy option, firewalls, and open_timeout_ns";
    case ENETUNREACH:
    case EHOSTUNREACH:
        return "no route to the proxy; check the proxy option and this machine's network";
    default:
        return wsr_dial_text(system_errno);
    }
}
