// A web app that authenticates by HTTP Basic, by simple-oauth2.
import { createHash, randomBytes } from 'node:crypto';
import { AuthorizationCode, ClientCredentials } from 'simple-oauth2';
import { settings, serve } from './vendor.mjs';

const config = {
  client: { id: settings.client_id, secret: settings.client_secret },
  auth: { tokenHost: settings.issuer, tokenPath: '/oauth/token', revokePath: '/oauth/revoke' },
};
const client = new AuthorizationCode({ ...config, auth: { ...config.auth, authorizePath: '/oauth/authorize' } });
const state = randomBytes(16).toString('hex');
const verifier = randomBytes(32).toString('base64url');

serve(() => client.authorizeURL({
  redirect_uri: settings.redirect_uri,
  scope: settings.scope,
  state,
  code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  code_challenge_method: 'S256',
}), async (url) => {
  if (url.searchParams.get('state') !== state) throw new Error('another state');
  const got = await client.getToken({ code: url.searchParams.get('code'), redirect_uri: settings.redirect_uri, code_verifier: verifier });
  const refreshed = await got.refresh();
  const own = await new ClientCredentials(config).getToken({});
  await got.revoke('access_token');
  return { got: got.token, refreshed: refreshed.token, own: own.token };
});
