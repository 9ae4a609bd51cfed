package platform

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// The prefixes of push keys. Those of signing keys are of Standard Webhooks.
const (
	signingKeyPrefix    = "whsec_"
	publicKeyPrefix     = "whpk_"
	encryptionKeyPrefix = "whek_"
)

// pushKeySize is the size of a push key, in bytes.
const pushKeySize = 32

// IssuedPushKey is a push key that was made just now.
type IssuedPushKey struct {
	Number      int         `json:"number"`
	Environment Environment `json:"environment"`
	Kind        PushKeyKind `json:"kind"`
	// KeyID is the kid of bodies that are encrypted with it: "appKey.2".
	KeyID string `json:"key_id,omitempty"`
	// Secret is "whsec_" or "whek_" and the base64 of the key. It is shown this
	// once: nothing else ever returns it. A key of sign_ed25519 has none to show.
	Secret string `json:"secret,omitempty"`
	// PublicKey is "whpk_" and the base64 of an Ed25519 key's public half.
	PublicKey string `json:"public_key,omitempty"`
}

// PushKeyRequest says what a push key is for, by default in the sandbox.
type PushKeyRequest struct {
	Environment Environment `json:"environment,omitempty"`
	Kind        PushKeyKind `json:"kind"`
}

// PushKeys lists an app's push keys by number, also those that have ended.
func (s *Service) PushKeys(ctx context.Context, ref string) ([]PushKey, error) {
	app, err := findApp(ctx, s.store, ref)
	if err != nil {
		return nil, err
	}
	return s.store.PushKeys(ctx, app.ID)
}

// AddPushKey makes a push key beside the live one, so that the app can change
// over without a gap. A third live one is ErrConflict. An encryption key is in
// use from now on; of signing keys all live ones are.
func (s *Service) AddPushKey(ctx context.Context, actor, ref string, r PushKeyRequest) (*IssuedPushKey, error) {
	env, err := ParseEnvironment(string(orSandbox(r.Environment)))
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]PushKeyKind{SigningKey, Ed25519Key, EncryptionKey}, r.Kind) {
		return nil, &FieldError{Field: "kind", Problem: fmt.Sprintf("%q is no kind of push key", r.Kind), Want: "sign, sign_ed25519 or encrypt"}
	}
	var issued *IssuedPushKey
	err = s.update(ctx, actor, func(tx Tx) (event, error) {
		app, err := findApp(ctx, tx, ref)
		if err != nil {
			return event{}, err
		}
		keys, err := tx.PushKeys(ctx, app.ID)
		if err != nil {
			return event{}, err
		}
		var key *PushKey
		if issued, key, err = s.issuePushKey(ctx, tx, app, keys, env, r.Kind); err != nil {
			return event{}, err
		}
		return event{"push_key.add", app.ID, nil, key, pushChange(app)}, nil
	})
	if err != nil {
		return nil, err
	}
	return issued, nil
}

// RevokePushKey ends a push key after the overlap that the app needs to change
// over; 0 ends it now. It never prolongs one that ends earlier. The last signing
// key and the last encryption key stay as long as there are subscriptions that
// need them: ErrConflict.
func (s *Service) RevokePushKey(ctx context.Context, actor, ref string, number int, after time.Duration) (*PushKey, error) {
	if after < 0 || after > maxOverlap {
		return nil, &FieldError{Field: "after", Problem: fmt.Sprintf("%v is out of range", after), Want: fmt.Sprintf("0s to %v", maxOverlap)}
	}
	var key *PushKey
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		app, err := findApp(ctx, tx, ref)
		if err != nil {
			return event{}, err
		}
		keys, err := tx.PushKeys(ctx, app.ID)
		if err != nil {
			return event{}, err
		}
		i := slices.IndexFunc(keys, func(k PushKey) bool { return k.Number == number })
		if i < 0 {
			return event{}, fmt.Errorf("push key %d of app %s: %w", number, app.ID, ErrNotFound)
		}
		key = &keys[i]
		now := s.clock()
		if !key.Live(now) {
			return event{}, fmt.Errorf("push key %d of app %s ended at %s: %w", number, app.ID, key.ExpiresAt.Format(time.RFC3339), ErrConflict)
		}
		if err := keepsPushing(ctx, tx, app, keys, key); err != nil {
			return event{}, err
		}
		before, err := auditJSON(key)
		if err != nil {
			return event{}, err
		}
		if end := now.Add(after); key.ExpiresAt.IsZero() || end.Before(key.ExpiresAt) {
			key.ExpiresAt = end
		}
		return event{"push_key.revoke", app.ID, before, key, pushChange(app)}, tx.PutPushKey(ctx, app, key)
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// keepsPushing refuses the end of a key that subscriptions need and that no
// other key without an end stands in for.
func keepsPushing(ctx context.Context, r Reader, app *App, keys []PushKey, ending *PushKey) error {
	if slices.ContainsFunc(keys, func(k PushKey) bool {
		return k.Number != ending.Number && k.Kind == ending.Kind && k.Environment == ending.Environment && k.ExpiresAt.IsZero()
	}) {
		return nil
	}
	subs, err := r.Subscriptions(ctx, SubscriptionFilter{App: app.ID, Environment: ending.Environment}, Page{Limit: maxPageRows})
	if err != nil {
		return err
	}
	for i := range subs {
		if ending.Kind != Ed25519Key || subs[i].Asymmetric {
			return fmt.Errorf("push key %d is the last of the kind %s, and subscription %s needs one: add another first: %w", ending.Number, ending.Kind, subs[i].ID, ErrConflict)
		}
	}
	return nil
}

// completePushKeys makes the keys that the subscription needs and the app lacks.
func (s *Service) completePushKeys(ctx context.Context, tx Tx, app *App, sub *Subscription) (issued []IssuedPushKey, err error) {
	keys, err := tx.PushKeys(ctx, app.ID)
	if err != nil {
		return nil, err
	}
	kinds := []PushKeyKind{SigningKey, EncryptionKey}
	if sub.Asymmetric {
		kinds = append(kinds, Ed25519Key)
	}
	for _, kind := range kinds {
		if slices.ContainsFunc(livePushKeys(keys, sub.Environment, kind, s.clock()), func(k PushKey) bool { return k.ExpiresAt.IsZero() }) {
			continue
		}
		made, key, err := s.issuePushKey(ctx, tx, app, keys, sub.Environment, kind)
		if err != nil {
			return nil, err
		}
		issued, keys = append(issued, *made), append(keys, *key)
	}
	return issued, nil
}

// pushChange is a change of what is pushed to the app.
func pushChange(app *App) Change { return Change{ChangePush, strconv.FormatUint(app.Number, 10)} }

func livePushKeys(keys []PushKey, env Environment, kind PushKeyKind, now time.Time) (live []PushKey) {
	for _, k := range keys {
		if k.Environment == env && k.Kind == kind && k.Live(now) {
			live = append(live, k)
		}
	}
	return live
}

// issuePushKey makes a key, numbered after the app's others, and writes it,
// unless two of its kind are live.
func (s *Service) issuePushKey(ctx context.Context, tx Tx, app *App, keys []PushKey, env Environment, kind PushKeyKind) (*IssuedPushKey, *PushKey, error) {
	if live := livePushKeys(keys, env, kind, s.clock()); len(live) >= maxLive {
		return nil, nil, fmt.Errorf("app %s has %d live push keys of the kind %s for the %s: revoke number %d or %d first: %w",
			app.ID, len(live), kind, env, live[0].Number, live[1].Number, ErrConflict)
	}
	secret := make([]byte, pushKeySize)
	if _, err := io.ReadFull(s.rand, secret); err != nil {
		return nil, nil, fmt.Errorf("reading random bytes: %w", err)
	}
	key := &PushKey{Number: 1, Environment: env, Kind: kind, Secret: NewSecret(secret), CreatedAt: s.clock()}
	for _, k := range keys {
		key.Number = max(key.Number, k.Number+1)
	}
	issued := &IssuedPushKey{Number: key.Number, Environment: env, Kind: kind}
	switch text := base64.StdEncoding.EncodeToString(secret); kind {
	case SigningKey:
		issued.Secret = signingKeyPrefix + text
	case EncryptionKey:
		issued.Secret, issued.KeyID = encryptionKeyPrefix+text, fmt.Sprintf("%s.%d", app.Key, key.Number)
	case Ed25519Key:
		public := ed25519.NewKeyFromSeed(secret).Public().(ed25519.PublicKey)
		key.PublicKey = publicKeyPrefix + base64.StdEncoding.EncodeToString(public)
		issued.PublicKey = key.PublicKey
	}
	return issued, key, tx.PutPushKey(ctx, app, key)
}
