// The npm module utf-8-validate for wsring-micro --utf8-other; what goes over the two streams is in other.h.
//
// usage: node utf8_npm.js DIRECTORY      DIRECTORY has node_modules/utf-8-validate
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const directory = path.resolve(process.argv[2], 'node_modules/utf-8-validate');
const isValidUtf8 = require(directory);
if (isValidUtf8 === require(path.join(directory, 'fallback.js'))) {
    console.error('utf8_npm.js: utf-8-validate has no native code for this machine');
    process.exit(1);
}

const BYTES_PER_CLOCK = 256 << 10;

// Blocks: this process does nothing else. False when the input has ended.
function read(buffer) {
    for (let used = 0; used < buffer.length;) {
        const got = fs.readSync(0, buffer, used, buffer.length - used, null);
        if (got === 0) {
            return false;
        }
        used += got;
    }
    return true;
}

function readLine() {
    const byte = Buffer.alloc(1);
    let line = '';
    while (read(byte)) {
        if (byte[0] === 0x0a) {
            return line;
        }
        line += String.fromCharCode(byte[0]);
    }
    return null;
}

// Returns the bytes per second of CPU time, and the CPU time per time gone by.
function measure(text, sliceNs) {
    const calls = Math.floor(BYTES_PER_CLOCK / (text.length + 64)) + 1;
    const cpuBegin = process.cpuUsage();
    const begin = process.hrtime.bigint();
    let done = 0;
    let elapsed;
    do {
        for (let i = 0; i < calls; i++) {
            if (!isValidUtf8(text)) {
                throw new Error('the text is not valid');
            }
        }
        done += calls;
        elapsed = process.hrtime.bigint() - begin;
    } while (elapsed < sliceNs);
    const cpu = process.cpuUsage(cpuBegin);
    const cpuNs = (cpu.user + cpu.system) * 1000;
    return [done * text.length * 1e9 / cpuNs, cpuNs / Number(elapsed)];
}

for (let line = readLine(); line !== null; line = readLine()) {
    const [len, sliceNs] = line.split(' ');
    const text = Buffer.alloc(Number(len));
    if (!read(text)) {
        break;
    }
    measure(text, BigInt(sliceNs) / 4n);    // the compiler of node has its say first
    fs.writeSync(1, measure(text, BigInt(sliceNs)).join(' ') + '\n');
}
