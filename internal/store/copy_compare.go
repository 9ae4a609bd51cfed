package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// compare reads every row of both and names the first one that differs, by its
// table and key; what is in it stays untold.
func compare(ctx context.Context, a, b *reader, count func(int)) error {
	for _, table := range copyTables {
		if err := compareTable(ctx, table, a, b, count); err != nil {
			return err
		}
	}
	for _, name := range counters {
		x, err := a.counter(ctx, name)
		if err != nil {
			return err
		}
		y, err := b.counter(ctx, name)
		if err != nil {
			return err
		}
		if x != y {
			return fmt.Errorf("the stores differ: the last number of %s is %d in the source and %d in the target", name, x, y)
		}
	}
	return nil
}

// rowOf is a row, or why there is none.
type rowOf struct {
	row []any
	err error
}

// errEnough ends a reading that nobody needs any more.
var errEnough = errors.New("enough")

func (r *reader) rows(ctx context.Context, table copyTable) iter.Seq[rowOf] {
	return func(yield func(rowOf) bool) {
		err := r.readRows(ctx, table, func(row []any) error {
			if !yield(rowOf{row: row}) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(rowOf{err: err})
		}
	}
}

func compareTable(ctx context.Context, table copyTable, a, b *reader, count func(int)) error {
	nextA, stopA := iter.Pull(a.rows(ctx, table))
	defer stopA()
	nextB, stopB := iter.Pull(b.rows(ctx, table))
	defer stopB()
	n := 0
	for {
		x, moreA := nextA()
		y, moreB := nextB()
		if err := cmp.Or(x.err, y.err); err != nil {
			return err
		}
		if !moreA && !moreB {
			count(n)
			return nil
		}
		if err := compareRow(table, x.row, y.row); err != nil {
			return err
		}
		if n++; n == copyBatch {
			count(n)
			n = 0
		}
	}
}

// compareRow compares a row of the source with one of the target; either may
// be nil.
func compareRow(table copyTable, x, y []any) error {
	order := 0
	switch {
	case y == nil:
		order = -1
	case x == nil:
		order = 1
	default:
		for i := 0; i < table.key && order == 0; i++ {
			order = compareKey(x[i], y[i])
		}
	}
	switch {
	case order < 0:
		return fmt.Errorf("the stores differ: table %s lacks the row %s in the target", table.name, table.keyText(x))
	case order > 0:
		return fmt.Errorf("the stores differ: table %s has the row %s only in the target", table.name, table.keyText(y))
	}
	for i := range table.columns {
		if !sameValue(x[i], y[i]) {
			return fmt.Errorf("the stores differ: table %s, row %s, column %s", table.name, table.keyText(x), table.columns[i].name)
		}
	}
	return nil
}

func compareKey(x, y any) int {
	switch x := x.(type) {
	case int64:
		return cmp.Compare(x, y.(int64))
	case []byte:
		return bytes.Compare(x, y.([]byte))
	}
	return cmp.Compare(x.(string), y.(string))
}

func sameValue(x, y any) bool {
	if b, ok := x.([]byte); ok {
		other, ok := y.([]byte)
		return ok && bytes.Equal(b, other)
	}
	if _, ok := y.([]byte); ok {
		return false
	}
	return x == y
}

func (c copyTable) keyText(row []any) string {
	parts := make([]string, c.key)
	for i := range parts {
		format := "%s=%v"
		if c.columns[i].kind == blob {
			format = "%s=%x"
		}
		parts[i] = fmt.Sprintf(format, c.columns[i].name, row[i])
	}
	return strings.Join(parts, " ")
}
