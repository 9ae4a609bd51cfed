// Node 18 has the Web Crypto API, but does not yet show it as the global that
// browsers have, and that some libraries rely on.
import { webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto;
globalThis.CryptoKey ??= webcrypto.CryptoKey;
