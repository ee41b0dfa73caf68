// The same script run twice against one scripted server: with npm ws as the client, and with interop_client. What the
// two clients told and what the server saw of them must be the same:
//     node differential.mjs PATH_TO_INTEROP_CLIENT
// Prints PASS and FAIL lines. Where ws is known to do something else than the Standard, the script names the difference
// and says what the Standard wants: of ours that, of ws anything else - a difference that has gone is a failure too.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import net from 'node:net';
import zlib from 'node:zlib';
import WebSocket from 'ws';

const [client] = process.argv.slice(2);
if (!client) {
    console.error('usage: node differential.mjs PATH_TO_INTEROP_CLIENT');
    process.exit(2);
}

const MODES = { inline: [], workers: ['--workers', '2', '--dispatch'] };
const PATIENCE_MS = 10000;
const KNOWN_PATIENCE_MS = 500;      // some of what ws does otherwise is that it never ends

const DIFFERENCES = {
    'silent-end': 'ws has no error event when TCP ends without a Close frame; the Standard fires it',
    'reason-dropped': 'ws sends an empty Close when there is a reason and no code',
    'late-message': 'ws hands out messages after its own close(); the Standard drops them',
    'closing-refused': 'close() of ws is CLOSING already when it throws, so that no legal close() can follow',
    'close-codes': 'ws lets close() send every code that may stand in a frame; the Standard only 1000 and 3000 to 4999',
    'long-form': 'ws takes a length that is not written in the shortest form; RFC 6455 5.2 forbids it',
    'length-code': 'ws fails a 64-bit length with its top bit set with 1009; it breaks RFC 6455 5.2, so it is 1002',
    'no-pong': 'ws does not answer a Ping after it has sent its own Close; RFC 6455 5.5.2 wants it',
    'http-parser': 'ws leaves the answer to the HTTP parser of Node, which takes HTTP/1.0 with an upgrade',
    'final-window': 'ws forgets the window after a block that calls itself the last',
    'nothing': 'ws gives its inflater the tail of a compressed message without a byte, and cannot read the next one',
    'bits': 'ws takes every form of a number for *_max_window_bits; RFC 7692 7.1.2 has no leading zeros and no signs',
    'twice': 'ws takes an answer that agrees to permessage-deflate twice',
    'truncated': 'ws takes a compressed message that is cut off for as much as it says',
    'fragment': 'ws takes a URL that ends in a lone #',
};

// ---- Bytes --------------------------------------------------------------------------------------------------

function frame(opcode, payload = '', { fin = true, rsv = 0, masked = false, long = 0 } = {}) {
    const body = Buffer.from(payload);
    const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
    const mask = masked ? 0x80 : 0;
    let head;
    if (long === 64 || body.length > 65535) {
        head = Buffer.alloc(10);
        head[1] = mask | 127;
        head.writeBigUInt64BE(BigInt(body.length), 2);
    } else if (long === 16 || body.length > 125) {
        head = Buffer.alloc(4);
        head[1] = mask | 126;
        head.writeUInt16BE(body.length, 2);
    } else {
        head = Buffer.from([0, mask | body.length]);
    }
    head[0] = first;
    return Buffer.concat([head, masked ? Buffer.alloc(4) : Buffer.alloc(0), body]);
}

const text = (payload, more) => frame(1, payload, more);
const binary = (payload, more) => frame(2, payload, more);
const more = (payload, options) => frame(0, payload, options);
const ping = (payload, options) => frame(9, payload, options);

function close(code, reason = '') {
    if (code === undefined)
        return frame(8);
    const head = Buffer.alloc(2);
    head.writeUInt16BE(code);
    return frame(8, Buffer.concat([head, Buffer.from(reason)]));
}

function adler(data) {
    let a = 1;
    let b = 0;
    for (const byte of data) {
        a = (a + byte) % 65521;
        b = (b + a) % 65521;
    }
    return (((b << 16) | a) >>> 0).toString(16).padStart(8, '0');
}

const pattern = (length) => Uint8Array.from({ length }, (_, i) => i * 31 + Math.floor(i / 251));
const shown = (data) => (data.length <= 64 ? data.toString() : 'adler=' + adler(data));

// ---- The server -------------------------------------------------------------------------------------------

// One connection: what to do is the scene, a coroutine; what the client did is in `log`.
class Peer {
    constructor(socket) {
        this.socket = socket;
        this.input = Buffer.alloc(0);
        this.log = [];
        this.frames = [];
        this.waiting = [];
        this.isOver = new Promise((resolve) => socket.once('close', resolve));
        socket.setNoDelay(true);
        socket.on('data', (data) => this.take(data));
        socket.on('end', () => this.tell('fin'));
        socket.on('error', () => this.tell('reset'));
        socket.on('close', () => this.tell('gone'));
    }

    // A frame, or how the client ended.
    tell(event) {
        this.frames.push(event);
        for (const wake of this.waiting.splice(0))
            wake();
    }

    take(data) {
        this.input = Buffer.concat([this.input, data]);
        if (!this.head) {
            const end = this.input.indexOf('\r\n\r\n');
            if (end < 0)
                return;
            this.takeRequest(this.input.subarray(0, end).toString('latin1').split('\r\n'));
            this.input = this.input.subarray(end + 4);
        }
        while (this.takeFrame())
            ;
    }

    takeRequest([line, ...fields]) {
        this.head = Object.fromEntries(fields.map((field) => {
            const colon = field.indexOf(':');
            return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim().replace(/\s*,\s*/g, ', ')];
        }));
        const names = Object.keys(this.head).sort().filter((name) => name !== 'sec-websocket-key');
        this.log.push(line.replace(/id=\d+/, 'id'), ...names.map((name) => `${name}: ${this.head[name]}`));
        this.log.push(`fields ${fields.length}, key ${Buffer.from(this.head['sec-websocket-key'], 'base64').length}`);
        this.start(line.split(' ')[1]);
    }

    takeFrame() {
        const at = this.input;
        if (at.length < 2)
            return false;
        const form = at[1] & 127;
        const head = form === 127 ? 14 : form === 126 ? 8 : 6;
        if (at.length < head)
            return false;
        const length = form === 127 ? Number(at.readBigUInt64BE(2)) : form === 126 ? at.readUInt16BE(2) : form;
        if (at.length < head + length)
            return false;
        let body = Buffer.from(at.subarray(head, head + length));
        for (let i = 0; i < length; i++)
            body[i] ^= at[head - 4 + (i & 3)];
        this.input = at.subarray(head + length);
        if ((at[0] & (this.unpack ? 0xb0 : 0xf0)) !== 0x80 || (at[1] & 128) === 0)
            this.log.push('a frame that is not masked, final and plain');
        const opcode = at[0] & 15;
        body = this.unpack ? this.unpack(at[0], body) : body;
        const name = { 1: 'text', 2: 'binary', 8: 'close', 9: 'ping', 10: 'pong' }[opcode] ?? `opcode ${opcode}`;
        // Only the code of a Close that the client does not send of its own accord: what reason it has is its own.
        const story = opcode === 2 ? `${body.length} adler=${adler(body)}` : opcode !== 8 ? shown(body)
            : length < 2 ? '' : body.readUInt16BE(0) + (this.codesOnly ? '' : ' ' + body.subarray(2));
        this.log.push(`${name} ${story}`.trim());
        this.tell({ name, opcode, body });
        return true;
    }

    async nextFrame() {
        while (this.frames.length === 0)
            await new Promise((resolve) => this.waiting.push(resolve));
        return this.frames.shift();
    }

    // The next frame of that name, or null when the client has ended.
    async next(name) {
        for (;;) {
            while (this.frames.length > 0) {
                const frame = this.frames.shift();
                if (frame.name === name)
                    return frame;
                if (typeof frame === 'string')
                    return null;
            }
            await new Promise((resolve) => this.waiting.push(resolve));
        }
    }

    accept() {
        return createHash('sha1').update(this.head['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11')
            .digest('base64');
    }

    answer(fields = [], { status = 'HTTP/1.1 101 Switching Protocols', without = '' } = {}) {
        const own = ['Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Accept: ' + this.accept()];
        const kept = own.filter((field) => !without || !field.startsWith(without));
        return Buffer.from([status, ...kept, ...fields, '', ''].join('\r\n'), 'latin1');
    }

    send(...parts) {
        if (!this.socket.destroyed)
            this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part))));
    }

    // Every byte in a segment of its own.
    async drip(data) {
        for (let i = 0; i < data.length && !this.socket.destroyed; i++) {
            this.socket.write(data.subarray(i, i + 1));
            await new Promise((resolve) => setTimeout(resolve, 1));
        }
    }

    // The end of most scenes: our Close is under way, its answer is to come.
    async finish() {
        await this.next('close');
        this.socket.end();
    }
}

// All is sent at once, and leads to a Close frame: the answer to one, or that of a client that fails the connection.
const closing = (...parts) => async (peer) => {
    peer.codesOnly = true;
    peer.send(peer.answer(), ...parts);
    await peer.finish();
};
const refusing = (make) => async (peer) => {
    peer.send(make(peer));
    peer.socket.end();
};
const status = (line) => refusing(() => `HTTP/1.1 ${line}\r\nContent-Length: 2\r\n\r\nno`);

async function echo(peer) {
    peer.send(peer.answer());
    for (;;) {
        const { opcode, body } = await peer.nextFrame();
        if (opcode === undefined)
            return;
        if (opcode === 1 || opcode === 2 || opcode === 8)
            peer.send(frame(opcode, body));
        if (opcode === 8) {
            peer.socket.end();
            return;
        }
    }
}

// ---- The scripts ------------------------------------------------------------------------------------------

const scripts = [];

// `scene` is what the server does; `on` are the rules of interop_client; `known` and `standard` as said above.
function add(name, scene, on = [], rest = {}) {
    scripts.push({ name, scene, on, ...rest });
}

for (const size of [0, 1, 10, 125, 126, 127, 65535, 65536, 1 << 20])
    add(`send.binary-${size}`, echo, [`open:binary=${size}`, 'message:close=1000']);
for (const [name, words] of Object.entries({ empty: '', ascii: 'hello', accents: 'åäö ¥ é',
    astral: '\u{1047e}💩', bom: '\ufeffx', long: 'n'.repeat(70000) }))
    add(`send.text-${name}`, echo, [`open:text=${words}`, 'message:close=1000']);
add('send.many', echo, ['open:text=one', 'open:binary=70000', 'open:text=', 'open:text=four',
    'message@4:close=3000,done']);
add('send.answer', async (peer) => {
    peer.send(peer.answer(), text('a'), binary('b'), text(''), binary(Buffer.alloc(300, 7)));
    await peer.next('close');
    peer.send(close(1000));
    peer.socket.end();
}, ['message:answer', 'message@4:close=1000']);
add('send.before-close', echo, ['open:text=last', 'open:close=1000', 'open:text=late'],
    { known: 'late-message', standard: ['open', 'close 1000 clean=1 reason='] });

const long123 = 'r'.repeat(123);
for (const [name, rule] of Object.entries({ plain: 'close', '1000': 'close=1000', reason: 'close=1000,bye',
    '3000': 'close=3000', '4999': 'close=4999,x', unicode: 'close=4000,€ü', longest: 'close=4000,' + long123 }))
    add(`close.own-${name}`, echo, [`open:${rule}`]);
for (const code of [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
    add(`close.illegal-${code}`, echo, [`open:close=${code}`, 'open:close=1000'], { known: 'closing-refused',
        standard: ['open', 'refused', 'close 1000 clean=1 reason='] });
add('close.long-reason', echo, ['open:close=1000,' + long123 + 'r', 'open:close=1000'], { known: 'closing-refused',
    standard: ['open', 'refused', 'close 1000 clean=1 reason='] });
add('close.1001', echo, ['open:close=1001', 'open:close=1000'], { known: 'close-codes',
    standard: ['open', 'refused', 'close 1000 clean=1 reason='] });
add('close.only-reason', echo, ['open:close=0,why'], { known: 'reason-dropped',
    standard: ['open', 'close 1000 clean=1 reason=why'] });
add('close.twice', echo, ['open:close=3001,one', 'open:close=3002,two', 'close:close=3003']);
add('close.other-answer', async (peer) => {
    peer.send(peer.answer());
    await peer.next('close');
    peer.codesOnly = true;
    peer.send(close(4222, 'remote'));
    peer.socket.end();
}, ['open:close=4111,local']);
add('close.message-before-answer', async (peer) => {
    peer.send(peer.answer());
    await peer.next('close');
    peer.codesOnly = true;
    peer.send(text('late'), close(1000));
    peer.socket.end();
}, ['open:close=1000'], { known: 'late-message', standard: ['open', 'close 1000 clean=1 reason='] });
add('close.ping-before-answer', async (peer) => {
    peer.send(peer.answer());
    await peer.next('close');
    peer.send(ping('p'));
    await Promise.race([peer.next('pong'), new Promise((resolve) => setTimeout(resolve, 300))]);
    peer.codesOnly = true;
    peer.send(close(1000));
    peer.socket.end();
}, ['open:close=1000'], { known: 'no-pong', standard: ['open', 'close 1000 clean=1 reason='] });
add('close.unanswered-fin', async (peer) => {
    peer.send(peer.answer());
    await peer.next('close');
    peer.socket.end();
}, ['open:close=1000'], { known: 'silent-end', standard: ['open', 'error', 'close 1006 clean=0 reason='] });

for (const [name, bytes] of Object.entries({ empty: close(), '1000': close(1000), reason: close(1001, 'away'),
    '1011': close(1011, ''), '1014': close(1014), '3000': close(3000, '€'), '4999': close(4999, long123),
    bom: close(1000, '\ufeffx') }))
    add(`server-close.${name}`, closing(bytes));
for (const [name, bytes] of Object.entries({ '0': close(0), '999': close(999), '1004': close(1004), '1005': close(1005),
    '1006': close(1006), '1015': close(1015), '1016': close(1016), '2999': close(2999), '5000': close(5000),
    '65535': close(65535), 'one-byte': frame(8, 'x'), 'bad-reason': close(1000, Buffer.from([0xed, 0xa0, 0x80])) }))
    add(`server-close.illegal-${name}`, closing(bytes));
add('server-close.after-messages', closing(text('one'), binary('two'), close(1000, 'bye')));
add('server-close.then-more', closing(close(1000), text('late'), ping('late'), close(4000)));
add('server-close.in-pieces', async (peer) => {
    peer.codesOnly = true;
    await peer.drip(Buffer.concat([peer.answer(), text('hé'), binary('x'.repeat(130)), close(1000, 'by€')]));
    await peer.finish();
});
add('server-close.nothing', async (peer) => {
    peer.send(peer.answer());
    peer.socket.end();
}, [], { known: 'silent-end', standard: ['open', 'error', 'close 1006 clean=0 reason='] });
add('server-close.reset', async (peer) => {
    peer.send(peer.answer());
    await peer.next('text');
    peer.socket.resetAndDestroy();
}, ['open:text=go'], { known: 'silent-end', standard: ['open', 'error', 'close 1006 clean=0 reason='] });
add('server-close.in-a-frame', async (peer) => {
    peer.send(peer.answer(), text('whole'), Buffer.from([0x81, 0x05, 0x68]));
    peer.socket.end();
}, [], { known: 'silent-end', standard: ['open', 'message text 5 whole', 'error', 'close 1006 clean=0 reason='] });

const bye = close(1000);
add('receive.fragments', closing(text('a', { fin: false }), more('', { fin: false }), ping('p'),
    more('é', { fin: false }), more('z'), bye));
add('receive.split-character', closing(text(Buffer.from([0xe2, 0x82]), { fin: false }),
    more(Buffer.from([0xac])), bye));
add('receive.empty-fragments', closing(binary('', { fin: false }), more('', { fin: false }), more(''), bye));
add('receive.pings', closing(ping(''), ping('x'.repeat(125)), frame(10, 'unasked'), text('t'), bye));
add('receive.sizes', closing(...[0, 125, 126, 65535, 65536].map((size) => binary('s'.repeat(size))), bye));
add('receive.large', closing(binary('l'.repeat(3 << 20)), bye));
add('receive.bom', closing(text('\ufeffx'), bye));
add('receive.limit', closing(text('x'.repeat(1000)), bye), [], { limit: 1000 });
add('receive.over-limit', closing(text('x'.repeat(1001))), [], { limit: 1000 });
add('receive.over-limit-fragments', closing(text('x'.repeat(600), { fin: false }), more('x'.repeat(600))), [],
    { limit: 1000 });

for (const opcode of [3, 7, 11, 15])
    add(`broken.opcode-${opcode}`, closing(text('good'), frame(opcode)));
for (const rsv of [1, 2, 4])
    add(`broken.rsv-${rsv}`, closing(text('good'), text('bad', { rsv })));
add('broken.masked', closing(text('bad', { masked: true })));
add('broken.ping-126', closing(ping('x'.repeat(126))));
add('broken.ping-fragment', closing(ping('x', { fin: false })));
add('broken.close-126', closing(frame(8, Buffer.alloc(126, 3))));
add('broken.continuation', closing(more('x')));
add('broken.text-in-text', closing(text('x', { fin: false }), text('y')));
add('broken.utf8', closing(text(Buffer.from([0x68, 0xff]))));
add('broken.utf8-surrogate', closing(text(Buffer.from([0xed, 0xa0, 0x80]))));
add('broken.utf8-cut', closing(text(Buffer.from([0xe2, 0x82]))));
add('broken.utf8-fragments', closing(text(Buffer.from([0xe2, 0x82]), { fin: false }), more('x')));
add('broken.long-form-16', closing(text('x', { long: 16 }), bye), [], { known: 'long-form',
    standard: ['open', 'error', 'close 1006 clean=0 reason='] });
add('broken.long-form-64', closing(text('x', { long: 64 }), bye), [], { known: 'long-form',
    standard: ['open', 'error', 'close 1006 clean=0 reason='] });
add('broken.length-top-bit', closing(Buffer.from([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1])), [], { known: 'length-code',
    standard: ['open', 'error', 'close 1006 clean=0 reason='] });

for (const line of ['200 OK', '204 No Content', '301 Moved Permanently', '302 Found', '400 Bad Request',
    '401 Unauthorized', '403 Forbidden', '404 Not Found', '407 Proxy Authentication Required',
    '426 Upgrade Required', '500 Oops', '503 Service Unavailable'])
    add(`handshake.status-${line.slice(0, 3)}`, status(line));
add('handshake.redirect', refusing(() => 'HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n'));
add('handshake.garbage', refusing(() => 'FOO BAR BAZ\r\n\r\n'));
add('handshake.nothing', async (peer) => peer.socket.end());
add('handshake.reset', async (peer) => peer.socket.resetAndDestroy());
add('handshake.half', refusing((peer) => peer.answer().subarray(0, 40)));
add('handshake.http-1.0', refusing((peer) => peer.answer([], { status: 'HTTP/1.0 101 Switching Protocols' })), [],
    { known: 'http-parser', standard: ['error', 'close 1006 clean=0 reason='] });
for (const field of ['Upgrade', 'Connection', 'Sec-WebSocket-Accept'])
    add(`handshake.without-${field}`, refusing((peer) => peer.answer([], { without: field })));
add('handshake.wrong-accept', refusing((peer) => peer.answer(['Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo='],
    { without: 'Sec-WebSocket-Accept' })));
add('handshake.wrong-upgrade', refusing((peer) => peer.answer(['Upgrade: h2c'], { without: 'Upgrade' })));
add('handshake.upgrade-list', refusing((peer) => peer.answer(['Upgrade: a, websocket'], { without: 'Upgrade' })));
add('handshake.connection-list', async (peer) => {
    peer.codesOnly = true;
    peer.send(peer.answer(['Connection: keep-alive, Upgrade'], { without: 'Connection' }), text('in'), bye);
    await peer.finish();
});
add('handshake.interim', async (peer) => {
    peer.codesOnly = true;
    peer.send('HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n', peer.answer(), bye);
    await peer.finish();
});
add('handshake.unasked-extension', refusing((peer) => peer.answer(['Sec-WebSocket-Extensions: permessage-deflate'])));
add('handshake.unasked-protocol', refusing((peer) => peer.answer(['Sec-WebSocket-Protocol: chat'])));
const protocols = ['chat', 'news'];
add('handshake.protocol', async (peer) => {
    peer.codesOnly = true;
    peer.send(peer.answer(['Sec-WebSocket-Protocol: news']), bye);
    await peer.finish();
}, [], { protocols });
add('handshake.no-protocol', refusing((peer) => peer.answer()), [], { protocols });
add('handshake.other-protocol', refusing((peer) => peer.answer(['Sec-WebSocket-Protocol: mail'])), [], { protocols });
add('handshake.case-of-protocol', refusing((peer) => peer.answer(['Sec-WebSocket-Protocol: CHAT'])), [], { protocols });
add('handshake.two-protocols', refusing((peer) => peer.answer(['Sec-WebSocket-Protocol: chat, news'])), [],
    { protocols });
for (const list of [['a', 'a'], ['a b'], [''], ['a,b'], ['a', 'ü']])
    add(`construct.protocols-${JSON.stringify(list)}`, echo, [], { protocols: list });
for (const url of ['ftp://127.0.0.1/', 'ws://127.0.0.1/#x', 'ws://', 'ws://a b/', 'ws://127.0.0.1:65536/', '/relative',
    'about:blank', 'ws://256.1.1.1/'])
    add(`construct.url-${url}`, echo, [], { url });
add('construct.url-lone-#', closing(bye), [], { suffix: '#', known: 'fragment', standard: ['refused'] });
add('construct.query', closing(bye), [], { suffix: '&a=b c&ü=%zz' });
add('construct.user', closing(bye), [], { user: 'foo:bar@' });
add('construct.http', closing(bye), [], { scheme: 'http' });

// ---- Compressed -------------------------------------------------------------------------------------------

// One direction of a connection that keeps the context, as far as the sizes here need it.
class Context {
    constructor(keeps) {
        this.keeps = keeps;
        this.window = Buffer.alloc(0);
    }

    pass(call, data) {
        const dictionary = this.window.length > 0 ? { dictionary: this.window } : {};
        return call(data, { finishFlush: zlib.constants.Z_SYNC_FLUSH, ...dictionary });
    }

    keep(message) {
        if (this.keeps)
            this.window = Buffer.concat([this.window, message]).subarray(-32768);
    }

    pack(message) {
        const data = Buffer.from(message);
        const packed = this.pass(zlib.deflateRawSync, data).subarray(0, -4);
        this.keep(data);
        return packed;
    }

    unpack(packed) {
        const message = this.pass(zlib.inflateRawSync, Buffer.concat([packed, Buffer.from([0, 0, 255, 255])]));
        this.keep(message);
        return message;
    }
}

const agreeing = (answer) => [`Sec-WebSocket-Extensions: ${answer}`];
const packed = (opcode, payload, options) => frame(opcode, payload, { rsv: 4, ...options });
const hex = (digits) => Buffer.from(digits, 'hex');
const hello = hex('f248cdc9c90700');
const again = hex('f200110000');
const noise = Buffer.from(pattern(5000).map((byte, i) => (byte * byte * 7 + i * i) >> 3));

// Answers each message with the same, compressed. Which messages a client compresses is its own affair.
const echoPacked = (answer) => async (peer) => {
    const from = new Context(!answer.includes('client_no'));
    const to = new Context(!answer.includes('server_no'));
    peer.unpack = (first, body) => (first & 0x40 ? from.unpack(body) : body);
    peer.send(peer.answer(agreeing(answer)));
    for (let got; (got = await peer.nextFrame()) && got.opcode !== undefined;) {
        if (got.opcode === 8) {
            peer.send(frame(8, got.body));
            peer.socket.end();
            return;
        }
        peer.send(packed(got.opcode, to.pack(got.body)));
    }
};
const closingPacked = (...parts) => async (peer) => {
    peer.codesOnly = true;
    peer.send(peer.answer(agreeing('permessage-deflate')), ...parts);
    await peer.finish();
};

function addPacked(name, scene, on, rest) {
    add(`deflate.${name}`, scene, on, { deflate: true, ...rest });
}

for (const answer of ['', '; client_no_context_takeover', '; server_no_context_takeover',
    '; server_max_window_bits=15; client_max_window_bits=9',
    '; client_no_context_takeover; client_max_window_bits=8']) {
    for (const size of [0, 1, 10, 125, 126, 1000, 65535, 1 << 20])
        addPacked(`echo-${size}${answer}`, echoPacked('permessage-deflate' + answer),
            [`open:binary=${size}`, 'message:close=1000']);
    addPacked(`echo-texts${answer}`, echoPacked('permessage-deflate' + answer), ['open:text=hello', 'open:text=hello',
        'open:text=', 'open:binary=70000', 'open:binary=70000', `open:text=${'åäö ¥ é'.repeat(100)}`,
        'message@6:close=3000,done']);
}
addPacked('none', echo, ['open:text=plain', 'message:close=1000']);
addPacked('vectors', closingPacked(...[hello, again, hex('000500faff48656c6c6f00'), again,
    hex('f24805000000ffffcac9c90700'), hex('00'), hex('0200'), again].map((data) => packed(1, data)), bye));
addPacked('final', closingPacked(packed(1, hex('f348cdc9c9070000')), bye));
addPacked('final-then-window', closingPacked(packed(1, hex('f348cdc9c9070000')), packed(1, again), bye), [],
    { known: 'final-window', standard: ['open', 'message text 5 Hello', 'message text 5 Hello',
        'close 1000 clean=1 reason='] });
addPacked('nothing', closingPacked(packed(1, ''), bye));
addPacked('nothing-then-window', closingPacked(packed(1, hello), packed(1, ''), packed(1, again), bye),
    [], { known: 'nothing', standard: ['open', 'message text 5 Hello', 'message text 0 ', 'message text 5 Hello',
        'close 1000 clean=1 reason='] });
addPacked('plain-between', closingPacked(packed(1, hello), text('plain'), packed(1, again), bye));
addPacked('fragments', closingPacked(packed(1, hello.subarray(0, 3), { fin: false }), ping('p'),
    more('', { fin: false }), more(hello.subarray(3)), packed(1, '', { fin: false }), more(again), bye));
addPacked('large', closingPacked(packed(2, new Context(true).pack(Buffer.alloc(3 << 20))), bye));
addPacked('limit', closingPacked(packed(2, new Context(true).pack(noise.subarray(0, 1000))), bye), [], { limit: 1000 });
addPacked('over-limit', closingPacked(packed(2, new Context(true).pack(Buffer.alloc(1001)))), [], { limit: 1000 });
addPacked('over-limit-by-far', closingPacked(packed(2, new Context(true).pack(Buffer.alloc(8 << 20)))), [],
    { limit: 100000 });
for (const [name, bytes] of Object.entries({
    'rsv1-continuation': [packed(1, hello.subarray(0, 3), { fin: false }), packed(0, hello.subarray(3))],
    'rsv1-continuation-of-plain': [text('a', { fin: false }), packed(0, hello)],
    'rsv1-ping': [packed(9, '')],
    'rsv1-pong': [packed(10, hello)],
    'rsv1-close': [packed(8, close(1000).subarray(2))],
    'rsv2': [text('bad', { rsv: 2 })],
    'rsv12': [packed(1, hello, { rsv: 6 })],
    'text-in-text': [packed(1, hello, { fin: false }), packed(1, hello)],
    'block-type': [packed(2, hex('0600'))],
    'stored-length': [packed(2, hex('000500fbff48656c6c6f00'))],
    'too-far': [packed(1, again)],
    'utf8': [packed(1, new Context(true).pack(Buffer.from([0x68, 0xff])))],
    'utf8-cut': [packed(1, new Context(true).pack(Buffer.from([0x68, 0xe2, 0x82])))],
}))
    addPacked(`broken.${name}`, closingPacked(text('good'), ...bytes));
addPacked('broken.without-agreement', closing(text('good'), packed(1, hello)));
for (let i = 1; i < hello.length; i++)
    addPacked(`truncated.${i}`, closingPacked(packed(2, hello.subarray(0, i)), bye), [], { known: 'truncated',
        standard: ['open', 'error', 'close 1006 clean=0 reason='] });
for (const answer of ['server_max_window_bits=08', 'server_max_window_bits=0x9', 'server_max_window_bits=+9'])
    addPacked(`refused.${answer}`, refusing((peer) => peer.answer(agreeing('permessage-deflate; ' + answer))), [],
        { known: 'bits', standard: ['error', 'close 1006 clean=0 reason='] });
addPacked('refused.twice', refusing((peer) => peer.answer(agreeing('permessage-deflate, permessage-deflate'))), [],
    { known: 'twice', standard: ['error', 'close 1006 clean=0 reason='] });
for (const answer of ['permessage-deflate; x',
    'permessage-deflate; client_no_context_takeover; client_no_context_takeover',
    'permessage-deflate; client_no_context_takeover=1', 'permessage-deflate; server_max_window_bits',
    'permessage-deflate; client_max_window_bits', 'permessage-deflate; server_max_window_bits=7',
    'permessage-deflate; server_max_window_bits=16', 'permessage-deflate; client_max_window_bits=x',
    'permessage-deflate, x-other', 'x-other', 'x-webkit-deflate-frame', 'Permessage-Deflate', 'permessage-deflate,',
    'permessage-deflate;', ''])
    addPacked(`refused.${answer}`, refusing((peer) => peer.answer(agreeing(answer))));
for (const answer of ['permessage-deflate; server_max_window_bits="10"',
    'permessage-deflate ; client_max_window_bits=9',
    'permessage-deflate; server_no_context_takeover; client_no_context_takeover'])
    addPacked(`taken.${answer}`, async (peer) => {
        peer.codesOnly = true;
        peer.send(peer.answer(agreeing(answer)), bye);
        await peer.finish();
    });

// ---- The clients ------------------------------------------------------------------------------------------

// What interop_client prints, without what is ours alone: the details of an error, and why a call was refused.
function runOurs(script, url, mode) {
    const options = [...MODES[mode], ...(script.deflate ? ['--deflate-min', '1'] : ['--deflate=']),
        ...(script.limit ? ['--message-max', String(script.limit)] : [])];
    const named = (script.protocols ?? []).flatMap((protocol) => ['--protocol', protocol]);
    const rules = script.on.flatMap((rule) => ['--on', rule]);
    return new Promise((resolve) => {
        let output = '';
        const child = spawn(client, [...options, ...named, ...rules, url], { stdio: ['ignore', 'pipe', 'inherit'] });
        child.stdout.on('data', (data) => (output += data));
        child.on('error', (error) => resolve([String(error)]));
        child.on('close', (code) => {
            const lines = output.split('\n').slice(0, -1).map((line) => line.replace(/^error .*/, 'error')
                .replace(/^(refused|close|send) WSR_ERR.*/, 'refused'));
            resolve(code === 0 ? lines : [...lines, `status ${code}`]);
        });
    });
}

function act(socket, action, event) {
    const [name, argument = ''] = action.split(/=(.*)/s);
    if (name === 'text')
        socket.send(argument);
    else if (name === 'binary')
        socket.send(pattern(Number(argument)));
    else if (name === 'answer')
        socket.send(event.data);
    else if (argument === '')
        socket.close();
    else if (argument.includes(','))
        socket.close(Number(argument.split(',')[0]) || undefined, argument.slice(argument.indexOf(',') + 1));
    else
        socket.close(Number(argument));
}

function runWs(script, url) {
    const log = [];
    const counts = {};
    return new Promise((resolve) => {
        let socket;
        function heard(type, line, event) {
            log.push(line);
            counts[type] = (counts[type] ?? 0) + 1;
            for (const rule of script.on) {
                const [, of, at, action] = /^(\w+)(?:@(\d+))?:(.*)$/s.exec(rule);
                if (of !== type || (at && Number(at) !== counts[type]))
                    continue;
                try {
                    act(socket, action, event);
                } catch {
                    log.push('refused');
                }
            }
        }
        try {
            const perMessageDeflate = script.deflate ? { threshold: 0 } : false;
            const limits = { perMessageDeflate, maxPayload: script.limit ?? 1 << 27 };
            socket = new WebSocket(url, script.protocols ?? [], limits);
        } catch {
            resolve(['refused']);
            return;
        }
        socket.addEventListener('open', (event) => heard('open', `open ${socket.protocol}`.trim(), event));
        socket.addEventListener('error', (event) => heard('error', 'error', event));
        socket.addEventListener('message', (event) => {
            const data = Buffer.from(event.data);
            const isText = typeof event.data === 'string';
            heard('message', `message ${isText ? 'text' : 'binary'} ${data.length} ${isText ? shown(data)
                : 'adler=' + adler(data)}`, event);
        });
        socket.addEventListener('close', (event) => {
            heard('close', `close ${event.code} clean=${Number(event.wasClean)} reason=${event.reason}`, event);
            resolve(log);
        });
    });
}

// ---- Both -------------------------------------------------------------------------------------------------

const scenes = new Map();
const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const peer = new Peer(socket);
    peer.start = (target) => {
        const run = scenes.get(/id=(\d+)/.exec(target)?.[1]);
        run.peers.push(peer);
        run.scene(peer).catch((error) => peer.log.push(`scene: ${error}`));
    };
});

let runs = 0;

// Returns the lines of the client and of the server.
async function play(script, start, patience) {
    const id = String(++runs);
    const run = { scene: script.scene, peers: [] };
    scenes.set(id, run);
    const { scheme = 'ws', user = '', suffix = '' } = script;
    const url = script.url ?? `${scheme}://${user}127.0.0.1:${server.address().port}/chat?id=${id}${suffix}`;
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, patience, ['not over in time'])));
    const told = await Promise.race([start(url), late]);
    clearTimeout(timer);
    for (const peer of run.peers) {
        if (!peer.socket.destroyed)
            peer.socket.end();
        await Promise.race([peer.isOver, new Promise((resolve) => setTimeout(resolve, 300).unref())]);
        peer.socket.destroy();
    }
    return { told, seen: run.peers.map((peer) => peer.log.join(' | ')) };
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function judge(script, ws, ours) {
    if (!script.known) {
        return same(ws, ours) ? null : `ws told [${ws.told.join(' | ')}], its server saw [${ws.seen}]; ours told `
            + `[${ours.told.join(' | ')}], its server saw [${ours.seen}]`;
    }
    if (!same(ours.told, script.standard))
        return `told [${ours.told.join(' | ')}] instead of [${script.standard.join(' | ')}]`;
    return same(ws, ours) ? `ws does the same now, so this is no longer true: ${DIFFERENCES[script.known]}` : null;
}

await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
for (const script of scripts) {
    const ws = await play(script, (url) => runWs(script, url), script.known ? KNOWN_PATIENCE_MS : PATIENCE_MS);
    for (const mode of Object.keys(MODES)) {
        const ours = await play(script, (url) => runOurs(script, url, mode), PATIENCE_MS);
        const why = judge(script, ws, ours);
        const name = `differential.${script.name}.${mode}`.replaceAll(/\s/g, '_');
        if (why)
            process.exitCode = 1;
        console.log(why ? `FAIL ${name}: ${why.replaceAll('\n', ' ')}` : `PASS ${name}`);
    }
}
server.close();
