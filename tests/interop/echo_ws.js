// Echo server on npm ws. The first line of standard output is the port.
'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const server = http.createServer();
const echo = new WebSocketServer({ server, maxPayload: 1 << 30, perMessageDeflate: false });
echo.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('error', () => socket.terminate());
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => console.log(server.address().port));
