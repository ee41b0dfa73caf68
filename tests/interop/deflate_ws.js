// Echo servers on npm ws that agree to permessage-deflate, one for each configuration.
//
// usage: deflate_ws.js CONFIGURATIONS [CERTIFICATE KEY]
//
// CONFIGURATIONS is a JSON array of values of perMessageDeflate. The first line of standard output is a JSON array of
// the ports; then each connection that was accepted ends with one line, a JSON object:
//
//     id                of the URL's query
//     extensions        the header of the answer, "" without one
//     read, written     bytes on the wire, as the kernel counted them; of TLS, of what it carries
'use strict';
const { WebSocketServer } = require('ws');
const { createServer, serve } = require('./echo_ws.js');

const [configurations, certificate, key] = process.argv.slice(2);

async function listen(perMessageDeflate) {
    const server = createServer(certificate, key);
    const echo = new WebSocketServer({ server, maxPayload: 1 << 30, perMessageDeflate });
    const answers = new Map();      // by request
    echo.on('headers', (headers, request) => {
        const line = headers.find((header) => header.toLowerCase().startsWith('sec-websocket-extensions: '));
        answers.set(request, line ? line.slice(line.indexOf(' ') + 1) : '');
    });
    echo.on('connection', (socket, request) => {
        const connection = request.socket;
        serve(socket);
        socket.on('close', () => {
            const id = new URL(request.url, 'ws://host').searchParams.get('id');
            console.log(JSON.stringify({ id, extensions: answers.get(request), read: connection.bytesRead,
                written: connection.bytesWritten }));
            answers.delete(request);
        });
    });
    await new Promise((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 512 }, resolve));
    return server.address().port;
}

Promise.all(JSON.parse(configurations).map(listen)).then((ports) => console.log(JSON.stringify(ports)));
