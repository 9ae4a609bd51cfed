package pusher

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// challengeTopic is the type of the event that a challenge is.
const challengeTopic = "open.challenge"

// Challenge posts a challenge to the URL of a subscription, encrypted and signed
// as messages are; the endpoint proves with its answer that it can read them: 2xx
// and {"challenge":"<the same>"}. An error says what was wrong with the answer.
func (p *Pusher) Challenge(ctx context.Context, s *platform.Subscriber, sub *platform.Subscription) error {
	ready, err := newSubscriber(&platform.Subscriber{App: s.App, Keys: s.Keys})
	if err != nil {
		return err
	}
	e := newEndpoint(ready, sub)
	if e.problem != nil {
		return e.problem
	}
	var random [32]byte
	if _, err := io.ReadFull(p.random, random[:]); err != nil {
		return fmt.Errorf("reading random bytes: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(random[:])
	now := p.now()
	messages := []Message{{
		Environment: sub.Environment, Topic: challengeTopic, Time: now,
		Data: fmt.Appendf(nil, `{"challenge":%q}`, secret),
	}}
	if err := p.name(messages); err != nil {
		return err
	}
	m := &messages[0]
	body, number, err := p.makeBody(newEvent(m, p.source), ready, sub.Environment, sub.Format, now)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return errNoEncryptionKey
	}
	a := p.post(ctx, p.current.Load(), e, &Work{Message: m.ID, Topic: m.Topic, Attempt: 1}, body, number != 0)
	return a.proves(secret)
}

// proves tells whether the answer shows that the endpoint read the challenge.
func (a *answer) proves(secret string) error {
	if a.class != ClassNone {
		return fmt.Errorf("the endpoint: %s (%s)", a.problem, a.class)
	}
	var got struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil || got.Challenge == "" {
		return fmt.Errorf(`the endpoint answered %d after %v, but not with {"challenge":"…"}`, a.status, a.duration.Round(time.Millisecond))
	}
	if subtle.ConstantTimeCompare([]byte(got.Challenge), []byte(secret)) != 1 {
		return errors.New("the endpoint answered with another challenge than it was sent")
	}
	return nil
}
