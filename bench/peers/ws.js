// The comparison's client on npm ws. Command line and output are those of work.c.
'use strict';
const fs = require('fs');
const { WebSocket } = require('ws');

const NUMBERS = 32;
const MESSAGES_PER_CLOCK = 16;
const OPENING_MAX = 64;
const X = 'x'.charCodeAt(0);

const [kind, host, ...numbers] = process.argv.slice(2, 10);
const caFile = process.argv[10];      // over TLS: the server's certificate is checked against it
const [port, connections, size, inFlight, warmupMs, durationMs] = numbers.map(Number);
const now = () => performance.now();

let messages = 0, messagesBefore = 0, warmMs = 0, endMs = Infinity, beginMs = 0, beginCpu = null, measures = false;
const ca = caFile && fs.readFileSync(caFile);
const samples = [];
const payloads = [];
for (let number = 0; number < NUMBERS; number++) {
    const payload = Buffer.alloc(size, 'x');
    payload[size - 1] = number;
    payloads.push(payload);
}

function fail(why) {
    process.stderr.write('ws: ' + why + '\n');
    process.exit(1);
}

function begin() {
    warmMs = now() + warmupMs;
    endMs = warmMs + durationMs;
}

function goesOn() {
    const nowMs = now();
    if (!measures && warmMs > 0 && nowMs >= warmMs) {
        measures = true;
        messagesBefore = messages;
        beginCpu = process.cpuUsage();
        beginMs = now();
        endMs = beginMs + durationMs;
    }
    return nowMs < endMs;
}

function end(more) {
    if (kind !== 'memory') {
        const cpu = process.cpuUsage(beginCpu);
        more.messages = messages - messagesBefore;
        more.seconds = (now() - beginMs) / 1e3;
        more.cpu_seconds = (cpu.user + cpu.system) / 1e6;
    }
    if (samples.length > 0)
        more.p50_ns = Math.round(samples.sort((a, b) => a - b)[samples.length >> 1] * 1e6);
    let native = 'without bufferutil';
    try {
        native = 'bufferutil ' + require('bufferutil/package.json').version;
    } catch {
        // It is optional.
    }
    more.library = 'ws ' + require('ws/package.json').version + ', Node ' + process.versions.node;
    more.way = native;
    fs.writeSync(1, JSON.stringify(more) + '\n');
    process.exit(0);      // the server's measurement ends with the connections: at once
}

function connect(onMessage) {
    return new Promise((resolve) => {
        const socket = new WebSocket((ca ? 'wss://' : 'ws://') + host + ':' + port + '/',
                                     { perMessageDeflate: false, ca });
        socket.on('error', (error) => fail(error.message));
        socket.on('close', () => fail('a connection ended'));
        // Before the first message can come.
        onMessage(socket);
        socket.on('open', () => resolve(socket));
    });
}

async function connectAll(count, onMessage) {
    const found = [];
    while (found.length < count) {
        const wave = Array.from({ length: Math.min(OPENING_MAX, count - found.length) }, () => connect(onMessage));
        found.push(...await Promise.all(wave));
    }
    return found;
}

async function roundtrip() {
    const payload = Buffer.alloc(size, 'x');
    let thenMs = 0;
    const [socket] = await connectAll(1, (one) => one.on('message', (data) => {
        const nowMs = now();
        if (data.length !== size || data[size - 1] !== X)
            fail('a wrong answer');
        messages++;
        if (measures)
            samples.push(nowMs - thenMs);
        if (!goesOn())
            end({});
        thenMs = nowMs;
        one.send(payload);
    }));
    begin();
    thenMs = now();
    socket.send(payload);
}

async function stream(echoes) {
    const sockets = await connectAll(connections, (one) => {
        let seen = 0;
        one.sent = 0;
        one.on('message', (data) => {
            if (data.length !== size || data[size - 1] !== seen++ % NUMBERS)
                fail('a wrong message');
            if (++messages % MESSAGES_PER_CLOCK === 0 && !goesOn())
                end({});
            if (echoes)
                one.send(payloads[one.sent++ % NUMBERS]);
        });
    });
    begin();
    for (const socket of echoes ? sockets : []) {
        for (let i = 0; i < inFlight; i++)
            socket.send(payloads[socket.sent++ % NUMBERS]);
    }
}

// Anonymous pages that were touched, heap included; not the kernel's.
function readMemory() {
    global.gc?.();
    return Number(/^Anonymous: +(\d+)/m.exec(fs.readFileSync('/proc/self/smaps_rollup', 'latin1'))[1]) * 1024;
}

async function memory() {
    require('v8').setFlagsFromString('--expose-gc');
    global.gc = require('vm').runInNewContext('gc');
    const few = Math.max(Math.floor(connections / 3), 1);
    const sockets = await connectAll(few, () => {});
    const before = readMemory();
    sockets.push(...await connectAll(connections - few, () => {}));
    end({ memory_before_bytes: before, memory_after_bytes: readMemory(), connections: sockets.length - few });
}

if (numbers.length !== 6)
    fail('usage: ws.js roundtrip|ingest|echo|memory HOST PORT CONNECTIONS SIZE IN_FLIGHT WARMUP_MS DURATION_MS ' +
         '[CA_FILE]');
const works = { roundtrip, memory, ingest: () => stream(false), echo: () => stream(true) };
works[kind]();
