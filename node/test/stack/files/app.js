// An HTTP service that computes for a few milliseconds and keeps some state.
const crypto = require('crypto');
const kept = new Map();
require('http').createServer((req, res) => {
  const key = crypto.pbkdf2Sync('effiscale', req.url, 12000, 32, 'sha256').toString('hex');
  kept.set(key, Buffer.alloc(2048, key));
  if (kept.size > 20000) kept.delete(kept.keys().next().value);
  res.end(key);
}).listen(8080);
