/* The way to OPEN: look-up, the addresses in turn, the upgrade request; before the last, conn_proxy.c when there is a
 * proxy. One limit of time covers all of it (HS-13). */
#include "conn_inner.h"
#include "conn_tls.h"

#include <errno.h>
#include <stdlib.h>

void wsr_conn_opening_free(struct wsr_opening *opening)
{
    if (opening == NULL)
        return;
    free(opening->request);
    free(opening->offered);
    free(opening->tls_name);
    wsr_proxy_free(opening->proxy);
    free(opening);
}

void wsr_conn_end_opening(struct wsr_conn *c)
{
    wsr_conn_opening_free(wsr_conn_opening(c));
    c->link->command.subject = NULL;
}

static const char *dial_text(const struct wsr_conn *c, int system_errno)
{
    if (wsr_conn_opening(c)->dial.path.bytes > 0)
        return wsr_dial_path_text(system_errno);
    return wsr_conn_opening(c)->proxy != NULL ? wsr_conn_proxy_dial_text(system_errno) : wsr_dial_text(system_errno);
}

void wsr_conn_end_phase(struct wsr_conn *c, _Atomic uint32_t *span)
{
    uint64_t *start_ns = &wsr_conn_opening(c)->phase_start_ns;
    atomic_store_explicit(span, wsr_conn_span_between(*start_ns, c->host->now_ns), memory_order_relaxed);
    *start_ns = c->host->now_ns;
}

/* ---- The addresses in turn ---- */

/* Connect to the candidate that is next. Returns false when there is not even a file for it. */
static bool start_attempt(struct wsr_conn *c)
{
    struct wsr_conn_host *host = c->host;
    struct wsr_dial *dial = &wsr_conn_opening(c)->dial;
    socklen_t bytes;
    uint64_t attempt_deadline_ns = wsr_dial_deadline(dial, host->now_ns);
    const struct sockaddr *address = wsr_dial_next(dial, &bytes);
    c->file = wsr_dial_open(dial, host->driver);
    if (c->file < 0)
        return false;
    wsr_timer_arm(host->wheel, &c->timer, attempt_deadline_ns);
    c->ops |= WSR_CONN_OP_CONNECT;
    wsr_conn_count_few(&c->link->counts.addresses_tried);
    host->driver->ops->connect(host->driver, c->file, address, bytes, wsr_conn_token_of(c, WSR_CONN_OP_CONNECT));
    return true;
}

/* On the thread of whoever let this one through. */
static void hand_over_admission(struct wsr_gate_place *place)
{
    struct wsr_opening *opening = wsr_container_of(place, struct wsr_opening, place);
    struct wsr_conn_host *host = opening->host;
    wsr_ring_mpsc_push(&host->commands, &opening->admitted.node);
    host->wake(host);
}

/* May this connection be opened to @address now? If not, the ADMITTED command comes. */
static bool enter_gate(struct wsr_conn *c, const struct sockaddr *address)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    if (c->host->gate == NULL || address->sa_family == AF_UNIX)   /* which is no IP address */
        return true;
    opening->admitted.subject = c;
    opening->admitted.kind = WSR_COMMAND_ADMITTED;
    opening->place.admitted = hand_over_admission;
    return wsr_gate_enter(c->host->gate, &opening->place, address);
}

void wsr_conn_leave_gate(struct wsr_conn *c)
{
    if (c->host->gate != NULL && wsr_conn_opening(c) != NULL)
        wsr_gate_leave(c->host->gate, &wsr_conn_opening(c)->place);
}

static void try_next_address(struct wsr_conn *c)
{
    struct wsr_dial *dial = &wsr_conn_opening(c)->dial;
    const struct sockaddr *address;
    socklen_t bytes;
    while ((address = wsr_dial_next(dial, &bytes)) != NULL) {
        if (!enter_gate(c, address)) {
            /* The wait is a part of this address's share of the time. */
            c->ops |= WSR_CONN_OP_GATE;
            wsr_timer_arm(c->host->wheel, &c->timer, wsr_dial_deadline(dial, c->host->now_ns));
            return;
        }
        if (start_attempt(c))
            return;
        wsr_conn_leave_gate(c);
    }
    wsr_conn_fail(c, WSR_STAGE_CONNECT, dial->last_errno, dial_text(c, dial->last_errno));
}

void wsr_conn_let_through(struct wsr_conn *c)
{
    if (start_attempt(c))
        return;
    wsr_conn_leave_gate(c);
    try_next_address(c);
}

/* ---- Look-up ---- */

/* On a resolver thread. */
static void hand_over_lookup(struct wsr_resolve_request *request)
{
    struct wsr_opening *opening = request->context;
    struct wsr_conn_host *host = opening->host;
    wsr_ring_mpsc_push(&host->commands, &opening->looked_up.node);
    host->wake(host);
}

static void start_lookup(struct wsr_conn *c)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    opening->looked_up.subject = c;
    opening->looked_up.kind = WSR_COMMAND_LOOKED_UP;
    opening->lookup.context = opening;
    opening->lookup.done = hand_over_lookup;
    if (c->host->resolver == NULL || wsr_resolve_start(c->host->resolver, &opening->lookup) != 0) {
        wsr_conn_fail(c, WSR_STAGE_LOOKUP, ENOMEM, "no memory or thread for the name look-up");
        return;
    }
    c->ops |= WSR_CONN_OP_LOOKUP;
}

/* A FREE slot: the sockets are counted when they are opened, so there is one. */
static struct wsr_conn *take_slot(struct wsr_conn_host *host)
{
    struct wsr_conn *c = host->free_first;
    if (c != NULL) {
        host->free_first = wsr_conn_next(c);
        return c;
    }
    assert(host->slots_used < host->slots_count);
    return &host->slots[host->slots_used++];
}

void wsr_conn_open(struct wsr_conn_host *host, struct wsr_link *link)
{
    struct wsr_conn *c = take_slot(host);
    struct wsr_opening *opening = link->command.subject;
    *c = (struct wsr_conn){ .host = host, .link = link, .generation = c->generation, .file = -1 };
    opening->host = host;
    link->conn = c;
    wsr_session_init(&c->session, &host->sessions, &opening->upgrade);
    wsr_conn_enter(c, WSR_CONN_DIALING);
    opening->phase_start_ns = host->now_ns;
    opening->dial.deadline_ns = wsr_conn_after(c, host->open_timeout_ns);
    wsr_timer_arm(host->wheel, &c->timer, opening->dial.deadline_ns);
    if (opening->refusal != NULL)
        wsr_conn_fail(c, WSR_STAGE_CONNECT, 0, opening->refusal);
    else if (wsr_conn_needs_lookup(c))
        start_lookup(c);
    else
        try_next_address(c);
}

static const char *lookup_text(const struct wsr_conn *c, int error)
{
    const struct wsr_proxy *proxy = wsr_conn_opening(c)->proxy;
    switch (error) {
    case EAI_NONAME:
        if (proxy != NULL && !wsr_proxy_wants_address(proxy))
            return "the proxy's name does not resolve; check the proxy option and this machine's DNS settings";
        return "the host name does not resolve; check its spelling and this machine's DNS settings";
    case EAI_AGAIN:
        return "the name servers did not answer; check this machine's DNS settings (/etc/resolv.conf)";
    case EAI_SYSTEM:
        return "the name look-up failed; system_errno says why";
    default:
        return "the host has no address that can be connected to; check the name and this machine's DNS settings";
    }
}

void wsr_conn_found(struct wsr_conn *c)
{
    struct wsr_resolve_request *lookup = &wsr_conn_opening(c)->lookup;
    if (lookup->error != 0 || lookup->addresses_count == 0) {
        wsr_conn_fail(c, WSR_STAGE_LOOKUP, lookup->error == EAI_SYSTEM ? lookup->system_errno : 0,
                      lookup_text(c, lookup->error));
        return;
    }
    if (!wsr_conn_tell_proxy_address(c)) {
        struct wsr_dial *dial = &wsr_conn_opening(c)->dial;
        dial->addresses_count = lookup->addresses_count;
        memcpy(dial->addresses, lookup->addresses, lookup->addresses_count * sizeof dial->addresses[0]);
    }
    if (wsr_conn_needs_lookup(c)) {
        start_lookup(c);
        return;
    }
    wsr_conn_end_phase(c, &c->link->counts.lookup_span);
    try_next_address(c);
}

bool wsr_conn_say(struct wsr_conn *c, struct wsr_bytes bytes)
{
    struct wsr_chunk *chunk = wsr_slab_take_control(c->host->slab, bytes.len);
    if (chunk == NULL)
        return false;
    memcpy(chunk->data, bytes.data, bytes.len);
    chunk->used = (uint32_t)bytes.len;
    wsr_queue_push(&c->queue, chunk);
    wsr_conn_mark_unsent(c);
    return true;
}

void wsr_conn_start_upgrade(struct wsr_conn *c)
{
    struct wsr_opening *opening = wsr_conn_opening(c);
    if (!wsr_conn_say(c, wsr_bytes_of(opening->request, opening->request_bytes))) {
        wsr_conn_fail(c, WSR_STAGE_UPGRADE, ENOMEM, "no memory for the upgrade request");
        return;
    }
    free(opening->request);
    opening->request = NULL;
    wsr_conn_enter(c, WSR_CONN_UPGRADING);
    wsr_timer_arm(c->host->wheel, &c->timer, opening->dial.deadline_ns);
}

/* Arm the timer for @after_ns from now, or for the end of the opening. */
static void wait_within_limit(struct wsr_conn *c, uint64_t after_ns)
{
    uint64_t moment_ns = wsr_conn_after(c, after_ns), deadline_ns = wsr_conn_opening(c)->dial.deadline_ns;
    wsr_timer_arm(c->host->wheel, &c->timer, moment_ns < deadline_ns ? moment_ns : deadline_ns);
}

void wsr_conn_connected(struct wsr_conn *c, int32_t result)
{
    uint64_t pause_ns;
    assert(c->state == WSR_CONN_DIALING);
    if (result >= 0) {
        if (wsr_conn_opening(c)->proxy != NULL)
            wsr_conn_start_tunnel(c);
        else
            wsr_conn_reached(c);
        /* Whoever comes further by what was received asks for more when all of that is parsed. */
        if (wsr_conn_is_reading(c))
            wsr_conn_want_input(c);
        return;
    }
    /* An attempt whose share of the time was over was cancelled. */
    wsr_conn_opening(c)->dial.last_errno = result == -ECANCELED ? ETIMEDOUT : -result;
    c->host->driver->ops->close(c->host->driver, c->file);
    c->file = -1;
    wsr_conn_leave_gate(c);
    if (wsr_dial_again(&wsr_conn_opening(c)->dial, &pause_ns))
        wait_within_limit(c, pause_ns);
    else
        try_next_address(c);
}

/* The share of an address was over before its turn came. */
static void stop_waiting(struct wsr_conn *c)
{
    struct wsr_dial *dial = &wsr_conn_opening(c)->dial;
    if (!wsr_gate_withdraw(c->host->gate, &wsr_conn_opening(c)->place)) {
        /* It has come just now: the command is on its way. */
        wsr_timer_arm(c->host->wheel, &c->timer, dial->deadline_ns);
        return;
    }
    c->ops &= (uint8_t)~WSR_CONN_OP_GATE;
    wsr_dial_skip(dial, ETIMEDOUT);
    try_next_address(c);
}

void wsr_conn_open_expired(struct wsr_conn *c)
{
    static const char crowded[] = "others were opened to the same address all the time; raise open_timeout_ns, or do "
                                  "without WSR_ENGINE_ONE_CONNECTING";
    if (c->state == WSR_CONN_UPGRADING) {
        wsr_conn_fail(c, WSR_STAGE_UPGRADE, ETIMEDOUT,
                      "the server took the connection but did not answer the upgrade in time; see open_timeout_ns");
    } else if (c->state == WSR_CONN_TUNNELING) {
        wsr_conn_fail(c, WSR_STAGE_PROXY, ETIMEDOUT,
                      "the proxy took the connection but gave no tunnel in time; check the URL's host and port, and "
                      "open_timeout_ns");
    } else if (c->state == WSR_CONN_SECURING) {
        wsr_conn_fail(c, WSR_STAGE_TLS, ETIMEDOUT,
                      "the TLS handshake did not end in time; the server may not speak TLS on this port; see "
                      "open_timeout_ns");
    } else if (c->ops & WSR_CONN_OP_LOOKUP) {
        wsr_conn_fail(c, WSR_STAGE_LOOKUP, ETIMEDOUT,
                      "the name look-up took too long; check this machine's DNS settings, and open_timeout_ns");
    } else if (c->host->now_ns >= wsr_conn_opening(c)->dial.deadline_ns) {
        const char *text = (c->ops & WSR_CONN_OP_GATE) ? crowded : dial_text(c, ETIMEDOUT);
        wsr_conn_fail(c, WSR_STAGE_CONNECT, ETIMEDOUT, text);
    } else if (c->ops & WSR_CONN_OP_GATE) {
        stop_waiting(c);
    } else if (c->ops == 0) {
        try_next_address(c);        /* a pause is over */
    } else {
        /* This address had its share; its end leads to the next one. */
        wait_within_limit(c, CANCEL_AGAIN_NS);
        c->host->driver->ops->cancel(c->host->driver, wsr_conn_token_of(c, WSR_CONN_OP_CONNECT));
    }
}
