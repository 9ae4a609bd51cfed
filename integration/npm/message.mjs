// An app that reads a message: checked by standardwebhooks, decrypted by jose.
import './webcrypto.mjs';
import { Webhook } from 'standardwebhooks';
import { compactDecrypt } from 'jose';
import { settings, report, explain } from './vendor.mjs';

report({ ready: true });
try {
  const webhook = new Webhook(settings.signing);
  const { encrypt } = webhook.verify(settings.body, settings.headers);
  const { plaintext, protectedHeader } = await compactDecrypt(encrypt, Buffer.from(settings.encryption, 'base64'), {
    keyManagementAlgorithms: ['A256KW'],
    contentEncryptionAlgorithms: ['A256GCM'],
  });
  let forged = false;
  try {
    webhook.verify(settings.body + ' ', settings.headers);
    forged = true;
  } catch {
    // as it must be
  }
  report({ event: JSON.parse(new TextDecoder().decode(plaintext)), header: protectedHeader, forged });
} catch (err) {
  report({ failed: explain(err) });
}
