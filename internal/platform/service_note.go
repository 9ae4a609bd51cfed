package platform

import (
	"context"
	"fmt"
	"time"
)

// noteTimeout bounds how long a note of what was done may take.
const noteTimeout = 10 * time.Second

// Note does something that changes nothing of the domain (staff push a delivery
// again) and leaves an entry in the audit log. After tells about it; nil tells
// nothing. The entry comes after what was done, for that may be refused, and is no
// part of its transaction: the log is written under the lock of the domain, under
// which deliveries must not be waited for. A node that dies in between leaves no
// entry; the attempts and the job still tell their cause.
func (s *Service) Note(ctx context.Context, actor, action, target string, after any, do func() error) error {
	if err := checkActor(actor); err != nil {
		return err
	}
	data, err := auditJSON(after)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout) // who asked may have gone
	defer cancel()
	err = s.store.Update(ctx, func(tx Tx) error {
		return tx.AppendAudit(ctx, &AuditEntry{At: s.clock(), Actor: actor, Action: action, Target: target, After: data})
	})
	if err != nil {
		return fmt.Errorf("noting %s, which was done: %w", action, err)
	}
	return nil
}
