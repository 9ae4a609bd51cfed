// A certified OpenID provider, node-oidc-provider, with its own pages for trying
// out: whoever gives a name has an account of that name.
import { createServer } from 'node:https';
import Provider from 'oidc-provider';
import { settings, report } from './vendor.mjs';

const provider = new Provider(settings.issuer, {
  clients: [{
    client_id: settings.client_id,
    client_secret: settings.client_secret,
    redirect_uris: [settings.redirect_uri],
  }],
  claims: { profile: ['name'] },
  pkce: { required: () => true },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: 'Shop of ' + id }) }),
});
createServer({ cert: settings.cert, key: settings.key }, provider.callback())
  .listen(settings.port, '127.0.0.1', () => report({ ready: true }));
