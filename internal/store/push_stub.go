package store

import "context"

func (c *conn) notifyPush(context.Context, []uint64) error { return nil }

func (s *Store) pushNow(ctx context.Context, c *conn) (now int64, err error) {
	if s.pool == nil {
		return s.now().UnixMicro(), nil
	}
	err = c.one(ctx, []any{&now}, `SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`)
	return now, err
}
