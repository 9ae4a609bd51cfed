// An app that signs what it asks: private_key_jwt, PAR and PKCE by oauth4webapi.
import './webcrypto.mjs';
import * as oauth from 'oauth4webapi';
import { createPrivateKey } from 'node:crypto';
import { settings, serve } from './vendor.mjs';

const issuer = new URL(settings.issuer);
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2' }));
const pkcs8 = createPrivateKey(settings.key).export({ type: 'pkcs8', format: 'der' });
const key = await crypto.subtle.importKey('pkcs8', pkcs8, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, false, ['sign']);
const auth = oauth.PrivateKeyJwt(key);
const client = { client_id: settings.client_id };
const state = oauth.generateRandomState();
const verifier = oauth.generateRandomCodeVerifier();

serve(async () => {
  const pushed = await oauth.processPushedAuthorizationResponse(as, client, await oauth.pushedAuthorizationRequest(as, client, auth, {
    response_type: 'code',
    redirect_uri: settings.redirect_uri,
    scope: settings.scope,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }));
  const url = new URL(as.authorization_endpoint);
  url.search = new URLSearchParams({ client_id: settings.client_id, request_uri: pushed.request_uri });
  return url;
}, async (url) => {
  const params = oauth.validateAuthResponse(as, client, url, state);
  const got = await oauth.processAuthorizationCodeResponse(as, client,
    await oauth.authorizationCodeGrantRequest(as, client, auth, params, settings.redirect_uri, verifier));
  const refreshed = await oauth.processRefreshTokenResponse(as, client,
    await oauth.refreshTokenGrantRequest(as, client, auth, got.refresh_token));
  const own = await oauth.processClientCredentialsResponse(as, client,
    await oauth.clientCredentialsGrantRequest(as, client, auth, {}));
  const introspected = await oauth.processIntrospectionResponse(as, client,
    await oauth.introspectionRequest(as, client, auth, refreshed.access_token));
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, got.access_token));
  const revoked = await oauth.processIntrospectionResponse(as, client,
    await oauth.introspectionRequest(as, client, auth, got.access_token));
  return { got, refreshed, own, introspected, revoked };
});
