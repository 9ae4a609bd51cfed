package platform

import "context"

// Note leaves an entry in the audit log for something that was done and changed
// nothing of the domain: a delivery that staff pushed again. After tells about
// it; nil tells nothing.
func (s *Service) Note(ctx context.Context, actor, action, target string, after any) error {
	if err := checkActor(actor); err != nil {
		return err
	}
	entry := &AuditEntry{At: s.clock(), Actor: actor, Action: action, Target: target}
	var err error
	if entry.After, err = auditJSON(after); err != nil {
		return err
	}
	return s.store.Update(ctx, func(tx Tx) error { return tx.AppendAudit(ctx, entry) })
}
