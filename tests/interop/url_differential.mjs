// Compare the URL parser with that of Node over inputs made from pieces:
//     node url_differential.mjs PATH_TO_URL_DUMP [COUNT] [SEED]
// The steps of the WebSocket constructor (scheme, fragment) are applied to what Node says. Ends with a non-zero status
// when there is a difference that is not one of the known ones below.
import { spawnSync } from 'node:child_process';

const [dump, count = '50000', seed = '1'] = process.argv.slice(2);
if (!dump) {
    console.error('usage: node url_differential.mjs PATH_TO_URL_DUMP [COUNT] [SEED]');
    process.exit(2);
}

const pieces = {
    front: ['', '', '', ' ', '\t', '\u0001'],
    scheme: ['ws:', 'ws:', 'wss:', 'http:', 'https:', 'WS:', 'hTTps:', 'w\ns:', 'ftp:', 'x:', '', '', '1:', 'ws'],
    slashes: ['//', '//', '//', '//', '', '/', '\\\\', '/\\', '///', '\t//'],
    user: ['', '', '', '', 'u@', 'u:p@', ':p@', ':@', '@', 'a@b@', 'u:p:q@', '%41:%zz@', '[x]@', 'ü^|;=\'@', 'u#@',
        'u/@'],
    host: ['h', 'Example.COM', 'a.b.c', 'h.', '.', '..', 'a..b', '', ' ', 'a b', '127.1', '0x7f.1', '2130706433',
        '256.1.1.1', '1.2.3.4.5',
        '1.2.3.4', '1.2.3.4.', '0x', '09', '08.1', '1e3', '4294967296', '99999999999999', '0.0x100', '1.2.3.0x',
        '00000000001', 'a.1', 'a.0xz',
        '[::1]', '[1:2:3:4:5:6:7:8]', '[::1.2.3.4]', '[0:0:1::]', '[1::2::3]', '[fe80::1%25e]', '[1:2]', '[', ']',
        '[]', '[:]', '[::ffff:1.2.3]', '[G::]',
        '[::1', '%41b', '%2e', 'a%2Eb', '%30', '%zz', '%00', '%', 'a%', 'a_b', 'a<b', 'a>b', 'a^b', 'a|b', 'a`b',
        'a{b}', 'a"b', 'a\'b', 'a*b', 'a\u007fb', 'a\u0000b',
        'bücher.example', 'BÜCHER.de', '☕.example', 'faß.de', 'ẞ.de', '日本語。ＪＰ', '１２７.1',
        'a\u00adb', '\u00ad', 'ab\u200dc', 'אa', 'א1.com', '\u0300b', '\ufffd.x',
        '％41', '℀', '\u2260', 'é', 'e\u0301', 'xn--bcher-kva.ü', '💩.la', 'l·l', 'Ⅷ.x', 'ﬁ.x', 'xn--zz',
        'ab--cü', '-Ü'],
    port: ['', '', '', ':', ':80', ':443', ':8080', ':0', ':00081', ':65535', ':65536', ':8a', ':-1', ':99999999999',
        ':8\t0', ':80:80'],
    path: ['', '/', '/a', '/a/b', '/a/../b', '/..', '/../..', '/.', '/./x', '/%2e%2E/x', '/.%2e', '/a/.', '//',
        '/a//b/..', '\\x\\..\\y', '/ \u0000"<>^`{}|', '/é%zz%41', '/a;b=c:@d',
        'x', '../x', './', '..', 'x:y', '/💩', '/...', '/%2e%2e%2e', '/a\tb'],
    query: ['', '', '', '?', '?a=b', '??', '?\'"<> `{}|^\\', '?é💩', '?\u0000', '?a/../b', '?%zz%41', '? '],
    fragment: ['', '', '', '', '', '', '', '', '#', '#x'],
    back: ['', '', '', ' ', '\n', '\u001f'],
};
const bases = [null, null, 'https://a/b/c?q', 'ws://u:p@[::1]:8080?', 'http://h:443/x/', 'wss://h'];

// mulberry32
let state = Number(seed) >>> 0;
function random(limit) {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
}
const pick = (list) => list[random(list.length)];

// Half of the inputs get up to three characters replaced, put in or taken out.
const letters = [...'/\\?#@:[].%0123456789abcdefxX -_~^|<>{}"\'`;=&$!*(),+\t\n\r\0\u0001\u007fé☕ß'];
function mutate(text) {
    const points = [...text];
    for (let left = Math.max(0, random(7) - 3); left > 0; left--)
        points.splice(random(points.length + 1), random(2), ...(random(3) ? [pick(letters)] : []));
    return points.join('');
}

function expected({ input, base }) {
    let url;
    try {
        url = base === null ? new URL(input) : new URL(input, base);
    } catch {
        return 'refused';
    }
    const scheme = { 'ws:': 'ws:', 'wss:': 'wss:', 'http:': 'ws:', 'https:': 'wss:' }[url.protocol];
    if (!scheme || url.href.includes('#'))
        return 'refused';
    // URL-18: "^" is in the Standard's path set, and was not yet in that of Node 20.
    const path = url.pathname.replaceAll('^', '%5E');
    const user = url.username + (url.password ? ':' + url.password : '');
    const query = url.search || (url.href.endsWith('?') ? '?' : '');
    const href = scheme + '//' + (user ? user + '@' : '') + url.host + path + query;
    const port = url.port || (scheme === 'wss:' ? 443 : 80);
    const target = path + (query === '?' ? '' : query);
    return [href, scheme + '//' + url.host, url.hostname, url.username, url.password, target, port].join('\t');
}

// Known differences. libidn2 2.3 refuses some names that UTS 46 allows (see engine/host.c). Node 20 checks the Punycode
// of all-ASCII hosts, which today's Standard does not, and leaves ".." in paths like "/.x/..", which no Standard did.
function isKnown({ input }, ours, nodes) {
    const ourHost = ours.split('\t')[2] ?? '';
    const [, , nodesHost = '', , , nodesTarget = ''] = nodes.split('\t');
    if (ours === 'refused')
        return /[^\x00-\x7f]/.test(input) && /xn--|(^|\.)-|-(\.|$)/.test(nodesHost);
    if (nodes === 'refused')
        return /(^|\.)xn--/.test(ourHost);
    return /\/(\.|%2e){1,2}(\/|$)/i.test(nodesTarget.split('?')[0]);
}

const cases = Array.from({ length: Number(count) }, () => ({
    input: mutate(Object.values(pieces).map(pick).join('')),
    base: pick(bases),
}));
const hex = (text) => Buffer.from(text, 'utf8').toString('hex');
const lines = cases.map(({ input, base }) => hex(input) + (base === null ? '' : ' ' + hex(base))).join('\n') + '\n';
const run = spawnSync(dump, { input: lines, maxBuffer: 1 << 30 });
if (run.status !== 0) {
    console.error('url_dump failed', run.error ?? run.stderr.toString());
    process.exit(2);
}
const answers = run.stdout.toString('latin1').split('\n');
let differences = 0;
let known = 0;
let accepted = 0;
cases.forEach((one, i) => {
    const nodes = expected(one);
    accepted += nodes !== 'refused';
    if (answers[i] === nodes)
        return;
    if (isKnown(one, answers[i], nodes)) {
        known++;
        return;
    }
    if (++differences <= 20)
        console.log(`${JSON.stringify(one)}\n  ours  ${answers[i]}\n  Node  ${nodes}`);
});
console.log(`${cases.length} inputs, ${accepted} of them URLs, ${known} known differences, ${differences} others`);
process.exit(differences > 0 ? 1 : 0);
