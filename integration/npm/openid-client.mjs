// A program on the merchant's own machine: no secret, a loopback redirect URI, PAR,
// PKCE and tokens that are bound to a key (DPoP), by openid-client.
import './webcrypto.mjs';
import * as client from 'openid-client';
import { settings, serve } from './vendor.mjs';

const config = await client.discovery(new URL(settings.issuer), settings.client_id, undefined, client.None(), { algorithm: 'oauth2' });
const keys = await client.randomDPoPKeyPair('ES256', { extractable: true });
const DPoP = client.getDPoPHandle(config, keys);
const state = client.randomState();
const verifier = client.randomPKCECodeVerifier();

serve(async () => client.buildAuthorizationUrlWithPAR(config, {
  redirect_uri: settings.redirect_uri,
  scope: settings.scope,
  state,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
}, { DPoP }), async (url) => {
  const got = await client.authorizationCodeGrant(config, url, { pkceCodeVerifier: verifier, expectedState: state }, undefined, { DPoP });
  const refreshed = await client.refreshTokenGrant(config, got.refresh_token, undefined, { DPoP });
  return { got, refreshed, key: await crypto.subtle.exportKey('jwk', keys.privateKey) };
});
