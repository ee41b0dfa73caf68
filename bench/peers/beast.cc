// The comparison's client on Boost.Beast; with WSR_PEER_TLS defined, over TLS.
// SPDX-License-Identifier: MIT
#include <boost/asio/buffered_read_stream.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#ifdef WSR_PEER_TLS
#include <boost/asio/ssl.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket/ssl.hpp>
#endif

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "work.h"

namespace net = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = net::ip::tcp;

namespace {

// With io_context's own executor, not the type-erased one of tcp::socket.
using tcp_socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;

constexpr std::size_t buffer_bytes = 64 * 1024;

wsr_work work;

#ifdef WSR_PEER_TLS
net::ssl::context tls_context(net::ssl::context::tls_client);

// Beast's own stream over TLS: one record for the head and the payload of a frame.
class socket_type : public beast::ssl_stream<tcp_socket> {
public:
    // Asio's read buffer asks for it.
    using lowest_layer_type = tcp_socket::lowest_layer_type;

    explicit socket_type(net::io_context &context) : beast::ssl_stream<tcp_socket>(context, tls_context)
    {
    }

    lowest_layer_type &lowest_layer()
    {
        return next_layer().lowest_layer();
    }
};

tcp_socket &raw(socket_type &socket)
{
    return socket.next_layer();
}

// The server's certificate is checked: whom it is of, and that it is for this host.
void prepare_tls()
{
    if (work.ca_file == nullptr)
        wsr_work_fail("beast", "over TLS it needs a CA_FILE");
    tls_context.load_verify_file(work.ca_file);
    tls_context.set_verify_mode(net::ssl::verify_peer);
    tls_context.set_verify_callback(net::ssl::host_name_verification(work.host));
}

void secure(socket_type &socket)
{
    socket.handshake(net::ssl::stream_base::client);
}
#else
using socket_type = tcp_socket;

tcp_socket &raw(socket_type &socket)
{
    return socket;
}

void prepare_tls()
{
}

void secure(socket_type &)
{
}
#endif

// The stream itself reads 1,536 bytes at a time and writes each message on its own. Under it, Asio's read buffer takes
// what is there, and once all is open what is written waits for flush().
class buffered_socket : public net::buffered_read_stream<socket_type> {
    using base = net::buffered_read_stream<socket_type>;

public:
    explicit buffered_socket(net::io_context &context) : base(context, buffer_bytes)
    {
    }

    template <class Buffers> std::size_t write_some(const Buffers &buffers, beast::error_code &error)
    {
        if (!gathers)
            return base::write_some(buffers, error);
        error = {};
        std::size_t before = out.size(), bytes = beast::buffer_bytes(buffers);
        out.resize(before + bytes);
        return net::buffer_copy(net::buffer(out.data() + before, bytes), buffers);
    }

    template <class Buffers> std::size_t write_some(const Buffers &buffers)
    {
        beast::error_code error;
        std::size_t bytes = write_some(buffers, error);
        if (error)
            throw beast::system_error(error);
        return bytes;
    }

    void flush()
    {
        if (!out.empty())
            net::write(next_layer(), net::buffer(out));
        out.clear();
    }

    bool gathers = false;

private:
    std::vector<std::uint8_t> out;
};

tcp_socket &raw(buffered_socket &socket)
{
    return raw(socket.next_layer());
}

void secure(buffered_socket &socket)
{
    secure(socket.next_layer());
}

// Connections end with the process; Beast wants to know how they would.
template <class Socket> void end_tcp(Socket &socket, beast::error_code &error)
{
    raw(socket).close(error);
}

template <class Socket, class Handler> void end_tcp_async(Socket &socket, Handler &&handler)
{
    beast::error_code error;
    end_tcp(socket, error);
    net::post(socket.get_executor(), beast::bind_front_handler(std::forward<Handler>(handler), error));
}

void teardown(beast::role_type, buffered_socket &socket, beast::error_code &error)
{
    end_tcp(socket, error);
}

template <class Handler> void async_teardown(beast::role_type, buffered_socket &socket, Handler &&handler)
{
    end_tcp_async(socket, std::forward<Handler>(handler));
}

#ifdef WSR_PEER_TLS
template <class Handler> void async_teardown(beast::role_type, socket_type &socket, Handler &&handler)
{
    end_tcp_async(socket, std::forward<Handler>(handler));
}
#endif

// One connection. Written to only while no read is under way, so that a write may be a plain call.
template <class Socket> class link {
public:
    explicit link(net::io_context &context) : stream(context), in(work.size_bytes + 1)
    {
        stream.binary(true);
        stream.auto_fragment(false);
    }

    void open(const tcp::endpoint &server, const std::string &host)
    {
        raw(stream.next_layer()).connect(server);
        raw(stream.next_layer()).set_option(tcp::no_delay(true));
        secure(stream.next_layer());
        stream.handshake(host, "/");
    }

    void write(const std::uint8_t *payload)
    {
        stream.write(net::buffer(payload, work.size_bytes));
    }

    void write_next(std::uint8_t *payload)
    {
        wsr_work_number(&work, payload, &sent);
        write(payload);
    }

    // Returns when a whole message is in `in`.
    std::size_t read()
    {
        std::size_t used = 0;
        do
            used += stream.read_some(net::buffer(in.data() + used, in.size() - used));
        while (!stream.is_message_done());
        return used;
    }

    bool is_next(std::size_t used)
    {
        return wsr_work_is_next(&work, in.data(), used, &seen);
    }

    Socket &socket()
    {
        return stream.next_layer();
    }

    template <class OnMessage> void read_async(OnMessage on_message, std::size_t used = 0)
    {
        stream.async_read_some(net::buffer(in.data() + used, in.size() - used),
                               [this, on_message, used](beast::error_code error, std::size_t more) {
                                   if (error)
                                       wsr_work_fail("beast", error.message().c_str());
                                   if (stream.is_message_done())
                                       on_message(*this, used + more);
                                   else
                                       read_async(on_message, used + more);
                               });
    }

private:
    websocket::stream<Socket, false> stream;      // false: without permessage-deflate
    std::uint32_t sent = 0, seen = 0;

public:
    std::vector<std::uint8_t> in;
    std::uint32_t in_turn = 0;        // messages since the last flush
};

[[noreturn]] void end(const char *way)
{
    wsr_work_end(&work, ("Boost.Beast " + std::to_string(BOOST_VERSION / 100000) + "." +
                         std::to_string(BOOST_VERSION / 100 % 1000)).c_str(), way);
}

template <class Socket> using links = std::vector<std::unique_ptr<link<Socket>>>;

template <class Socket> void open_links(links<Socket> &all, net::io_context &context, std::uint32_t count)
{
    tcp::endpoint server(net::ip::make_address(work.host), work.port);
    std::string host = std::string(work.host) + ":" + std::to_string(work.port);
    while (all.size() < count) {
        all.push_back(std::make_unique<link<Socket>>(context));
        all.back()->open(server, host);
    }
}

// One connection is asked and answers, while this thread watches the sockets without sleeping.
void roundtrip(net::io_context &context)
{
    links<socket_type> all;
    std::vector<std::uint8_t> payload(work.size_bytes, 'x');
    open_links(all, context, 1);
    wsr_work_begin(&work);
    // What runs out of work stops.
    auto guard = net::make_work_guard(context);
    std::uint64_t then_ns, now_ns = wsr_work_now();
    do {
        bool answered = false;
        then_ns = now_ns;
        all[0]->write(payload.data());
        all[0]->read_async([&answered](link<socket_type> &self, std::size_t used) {
            if (!wsr_work_is_pong(&work, self.in.data(), used))
                wsr_work_fail("beast", "a wrong answer");
            answered = true;
        });
        while (!answered)
            context.poll();
        now_ns = wsr_work_now();
    } while (wsr_work_note_trip(&work, then_ns, now_ns));
    end("synchronous write, asynchronous read, spinning");
}

void ingest_one(net::io_context &context)
{
    links<buffered_socket> all;
    open_links(all, context, 1);
    wsr_work_begin(&work);
    do {
        if (!all[0]->is_next(all[0]->read()))
            wsr_work_fail("beast", "a wrong message");
    } while (wsr_work_count(&work));
    end("synchronous, 64 KiB read buffer");
}

void take(link<buffered_socket> &self, std::size_t used)
{
    if (!self.is_next(used))
        wsr_work_fail("beast", "a wrong message");
    if (!wsr_work_count(&work))
        end("asynchronous, 64 KiB read buffer");
    self.read_async(take);
}

void ingest(net::io_context &context)
{
    links<buffered_socket> all;
    open_links(all, context, work.connections_count);
    wsr_work_begin(&work);
    for (auto &one : all)
        one->read_async(take);
    context.run();
}

std::vector<std::uint8_t> echo_payload;
std::vector<link<buffered_socket> *> dirty;       // those with something to flush

void send_next(link<buffered_socket> &self)
{
    if (self.in_turn++ == 0)
        dirty.push_back(&self);
    self.write_next(echo_payload.data());
}

void answer(link<buffered_socket> &self, std::size_t used)
{
    if (!self.is_next(used))
        wsr_work_fail("beast", "a wrong echo");
    if (!wsr_work_count(&work))
        end("synchronous write, asynchronous read, buffers under both");
    send_next(self);
    self.read_async(answer);
}

// What is written while the ready handlers run leaves when they have: one write for each connection, not for each
// message, and faster also where that is the same.
void echo(net::io_context &context)
{
    links<buffered_socket> all;
    echo_payload.resize(work.size_bytes);
    open_links(all, context, work.connections_count);
    wsr_work_begin(&work);
    for (auto &one : all) {
        one->socket().gathers = true;
        for (std::uint32_t i = 0; i < work.in_flight; i++)
            send_next(*one);
        one->read_async(answer);
    }
    do {
        for (auto *one : dirty) {
            one->socket().flush();
            one->in_turn = 0;
        }
        dirty.clear();
    } while (context.run_one() + context.poll() > 0);
}

// Idle connections, each with a read under way.
void memory(net::io_context &context)
{
    links<socket_type> all;
    all.reserve(work.connections_count);
    auto never = [](link<socket_type> &, std::size_t) { wsr_work_fail("beast", "a message out of nothing"); };
    open_links(all, context, wsr_work_few(&work));
    for (auto &one : all)
        one->read_async(never);
    context.poll();
    wsr_work_look_at_memory(&work);
    open_links(all, context, work.connections_count);
    for (std::size_t i = wsr_work_few(&work); i < all.size(); i++)
        all[i]->read_async(never);
    context.poll();
    end("no read buffer, asynchronous read under way");
}

} // namespace

int main(int argc, char **argv)
{
    wsr_work_read(&work, argc, argv);
    // One thread: no locks.
    net::io_context context(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE);
    try {
        prepare_tls();
        switch (work.kind) {
        case WSR_WORK_ROUNDTRIP:
            roundtrip(context);
            break;
        case WSR_WORK_INGEST:
            if (work.connections_count == 1)
                ingest_one(context);
            ingest(context);
            break;
        case WSR_WORK_ECHO:
            echo(context);
            break;
        case WSR_WORK_MEMORY:
            memory(context);
            break;
        }
    } catch (const std::exception &error) {
        wsr_work_fail("beast", error.what());
    }
    wsr_work_fail("beast", "nothing more to do");
}
