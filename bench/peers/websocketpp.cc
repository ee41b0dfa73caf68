// The comparison's client on WebSocket++; with WSR_PEER_TLS defined, over TLS.
// SPDX-License-Identifier: MIT
#include <websocketpp/client.hpp>
#include <websocketpp/concurrency/none.hpp>
#ifdef WSR_PEER_TLS
#include <websocketpp/config/asio_client.hpp>
#else
#include <websocketpp/config/asio_no_tls_client.hpp>
#endif

#include <string>
#include <vector>

#include "work.h"

namespace {

#ifdef WSR_PEER_TLS
using stock = websocketpp::config::asio_tls_client;
constexpr const char *scheme = "wss://";
#else
using stock = websocketpp::config::asio_client;
constexpr const char *scheme = "ws://";
#endif

// One thread, so no locks and no strand; and no logging.
struct config : public stock {
    using type = config;
    using concurrency_type = websocketpp::concurrency::none;
    using alog_type = websocketpp::log::basic<concurrency_type, websocketpp::log::alevel>;
    using elog_type = websocketpp::log::basic<concurrency_type, websocketpp::log::elevel>;
    static const websocketpp::log::level elog_level = websocketpp::log::elevel::none;
    static const websocketpp::log::level alog_level = websocketpp::log::alevel::none;

    struct transport_config : public stock::transport_config {
        using concurrency_type = config::concurrency_type;
        using alog_type = config::alog_type;
        using elog_type = config::elog_type;
        static const bool enable_multithreading = false;
    };
    using transport_type = websocketpp::transport::asio::endpoint<transport_config>;
};

using client_type = websocketpp::client<config>;
using message_type = client_type::message_ptr;
using handle = websocketpp::connection_hdl;
constexpr auto binary = websocketpp::frame::opcode::binary;

constexpr std::uint32_t opening_max = 64;         // connections on their way at once

struct link {
    client_type::connection_ptr connection;
    std::uint32_t sent = 0, seen = 0;
};

wsr_work work;
client_type client;
std::vector<link> links;
std::uint32_t open_count;
std::vector<std::uint8_t> payload;
std::uint64_t then_ns;

[[noreturn]] void end(const char *way)
{
    wsr_work_end(&work, websocketpp::user_agent, way);
}

void send(link &self)
{
    auto error = self.connection->send(payload.data(), payload.size(), binary);
    if (error)
        wsr_work_fail("websocketpp", error.message().c_str());
}

void send_next(link &self)
{
    wsr_work_number(&work, payload.data(), &self.sent);
    send(self);
}

void on_pong(link &self, const std::string &message)
{
    if (!wsr_work_is_pong(&work, message.data(), message.size()))
        wsr_work_fail("websocketpp", "a wrong answer");
    std::uint64_t now_ns = wsr_work_now();
    if (!wsr_work_note_trip(&work, then_ns, now_ns))
        end("spinning");
    then_ns = now_ns;
    send(self);
}

void on_next(link &self, const std::string &message)
{
    if (!wsr_work_is_next(&work, message.data(), message.size(), &self.seen))
        wsr_work_fail("websocketpp", "a wrong message");
    // Messages that come before all are open are part of the warm-up.
    if (work.end_ns == 0)
        work.messages++;
    else if (!wsr_work_count(&work))
        end("sleeping");
    if (work.kind == WSR_WORK_ECHO)
        send_next(self);
}

void connect(link &self)
{
    websocketpp::lib::error_code error;
    self.connection = client.get_connection(scheme + std::string(work.host) + ":" + std::to_string(work.port) + "/",
                                            error);
    if (error)
        wsr_work_fail("websocketpp", error.message().c_str());
    self.connection->set_open_handler([](handle) { open_count++; });
    self.connection->set_fail_handler([](handle) { wsr_work_fail("websocketpp", "a connection did not open"); });
    self.connection->set_close_handler([](handle) { wsr_work_fail("websocketpp", "a connection ended"); });
    if (work.kind == WSR_WORK_ROUNDTRIP)
        self.connection->set_message_handler([&self](handle, const message_type &message) {
            on_pong(self, message->get_payload());
        });
    else
        self.connection->set_message_handler([&self](handle, const message_type &message) {
            on_next(self, message->get_payload());
        });
    client.connect(self.connection);
}

void open_links(std::uint32_t from, std::uint32_t to)
{
    for (std::uint32_t begun = from; open_count < to;) {
        for (; begun < to && begun - open_count < opening_max; begun++)
            connect(links[begun]);
        client.run_one();
    }
}

#ifdef WSR_PEER_TLS
// The server's certificate is checked: whom it is of, and that it is for this host.
void prepare_tls()
{
    namespace ssl = boost::asio::ssl;
    auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
    context->load_verify_file(work.ca_file);
    context->set_verify_mode(ssl::verify_peer);
    context->set_verify_callback(ssl::host_name_verification(work.host));
    client.set_tls_init_handler([context](handle) { return context; });
}
#else
void prepare_tls()
{
}
#endif

} // namespace

int main(int argc, char **argv)
{
    wsr_work_read(&work, argc, argv);
#ifdef WSR_PEER_TLS
    if (work.ca_file == nullptr)
        wsr_work_fail("websocketpp", "over TLS it needs a CA_FILE");
#endif
    links.resize(work.connections_count);
    payload.assign(work.size_bytes, 'x');
    try {
        client.init_asio();
        prepare_tls();
        client.set_tcp_post_init_handler([](handle which) {
            auto &socket = client.get_con_from_hdl(which)->get_socket().lowest_layer();
            socket.set_option(boost::asio::ip::tcp::no_delay(true));
        });
        if (work.kind == WSR_WORK_MEMORY) {
            open_links(0, wsr_work_few(&work));
            wsr_work_look_at_memory(&work);
            open_links(wsr_work_few(&work), work.connections_count);
            end("16 KiB read buffer");
        }
        open_links(0, work.connections_count);
        wsr_work_begin(&work);
        if (work.kind == WSR_WORK_ROUNDTRIP) {
            then_ns = wsr_work_now();
            send(links[0]);
            for (;;)
                client.poll();
        }
        for (std::uint32_t i = 0; work.kind == WSR_WORK_ECHO && i < work.connections_count * work.in_flight; i++)
            send_next(links[i % work.connections_count]);
        client.run();
    } catch (const std::exception &error) {
        wsr_work_fail("websocketpp", error.what());
    }
    wsr_work_fail("websocketpp", "nothing more to do");
}
