// Echo server on npm ws. The first line of standard output is the port.
//
// usage: echo_ws.js [CERTIFICATE KEY [CLIENTS_CA]]
//
// With CERTIFICATE it speaks TLS, with CLIENTS_CA to those alone that have a certificate of it. The same texts as in
// echo_websockets.py are no echoes.
'use strict';
const fs = require('fs');
const http = require('http');
const https = require('https');
const { WebSocketServer } = require('ws');

function createServer(certificate, key, clientsCa) {
    if (!certificate)
        return http.createServer();
    const options = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
    if (clientsCa)
        Object.assign(options, { ca: fs.readFileSync(clientsCa), requestCert: true, rejectUnauthorized: true });
    return https.createServer(options);
}

function sendFragments(socket, data, binary, count) {
    const step = Math.floor(data.length / count) + 1;
    for (let i = 0; i < data.length; i += step)
        socket.send(data.subarray(i, i + step), { binary, fin: i + step >= data.length });
}

function serve(socket) {
    let fragments = 1;
    socket.on('message', (data, isBinary) => {
        const words = !isBinary && data[0] === 33 ? data.toString().split(' ') : [''];
        if (words[0] === '!close')
            socket.close(Number(words[1]), words.slice(2).join(' '));
        else if (words[0] === '!ping')
            socket.ping();
        else if (words[0] === '!fragments')
            fragments = Number(words[1]);
        else if (fragments > 1 && data.length > 0)
            sendFragments(socket, data, isBinary, fragments);
        else
            socket.send(data, { binary: isBinary });
    });
    socket.on('pong', () => socket.send('pong'));
    socket.on('error', () => socket.terminate());
}

function main() {
    const server = createServer(...process.argv.slice(2));
    const echo = new WebSocketServer({ server, maxPayload: 1 << 30, perMessageDeflate: false });
    echo.on('connection', serve);
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => console.log(server.address().port));
}

module.exports = { createServer, serve };
if (require.main === module)
    main();
