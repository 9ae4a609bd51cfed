// A web app that has its users come by way of the platform, by passport-oauth2 in
// Express. The secret goes into the form.
import { randomBytes } from 'node:crypto';
import express from 'express';
import session from 'express-session';
import passport from 'passport';
import OAuth2Strategy from 'passport-oauth2';
import { settings, report, explain } from './vendor.mjs';

const strategy = new OAuth2Strategy({
  authorizationURL: settings.issuer + '/oauth/authorize',
  tokenURL: settings.issuer + '/oauth/token',
  clientID: settings.client_id,
  clientSecret: settings.client_secret,
  callbackURL: settings.redirect_uri,
  scope: settings.scope.split(' '),
  state: true,
  pkce: true,
}, (accessToken, refreshToken, got, profile, done) => {
  strategy._oauth2.getOAuthAccessToken(refreshToken, { grant_type: 'refresh_token' }, (err, at, rt, refreshed) => {
    if (err) return done(err);
    report({ got: { ...got, access_token: accessToken, refresh_token: refreshToken }, refreshed });
    done(null, { id: 'somebody' });
  });
});
passport.use(strategy);

const app = express();
app.use(session({ secret: randomBytes(16).toString('hex'), resave: false, saveUninitialized: false }));
app.get('/start', passport.authenticate('oauth2'));
app.get('/callback', passport.authenticate('oauth2', { session: false, failWithError: true }), (req, res) => {
  res.send('<!doctype html><title>The vendor</title><h1>Done</h1>');
});
app.use((err, req, res, next) => {
  report({ failed: explain(err) });
  res.send('<!doctype html><title>The vendor</title><h1>Failed</h1>');
});
app.listen(settings.port, '127.0.0.1', () => report({ ready: true }));
