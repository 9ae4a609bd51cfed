package platform

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// PutPlan makes or changes a plan. The one named "default" is for all apps
// that name none.
func (s *Service) PutPlan(ctx context.Context, actor string, p Plan) (*Plan, error) {
	if err := checkPlan(&p); err != nil {
		return nil, err
	}
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		old, err := plan(ctx, tx, p.Name)
		if err != nil {
			return event{}, err
		}
		ev := event{"plan.put", p.Name, nil, &p, catalogChange}
		if old != nil {
			ev.before = old
		}
		return ev, tx.PutPlan(ctx, &p)
	})
	if err != nil {
		return nil, err
	}
	return &p, nil
}

func checkPlan(p *Plan) error {
	if err := checkName("name", p.Name); err != nil {
		return err
	}
	if err := checkText("title", p.Title, 0, maxTitle); err != nil {
		return err
	}
	if err := p.App.check("app"); err != nil {
		return err
	}
	if err := p.AppAPI.check("app_api"); err != nil {
		return err
	}
	if err := p.AppUser.check("app_user"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.APIs)) {
		if !apiName.MatchString(name) {
			return &FieldError{Field: "apis." + name, Problem: "is no API's name", Want: `a name like "trade.order.get"`}
		}
		if err := p.APIs[name].check("apis." + name); err != nil {
			return err
		}
	}
	return nil
}

// DeletePlan removes a plan that no app names. Without the default plan, apps
// that name none are not limited by a plan.
func (s *Service) DeletePlan(ctx context.Context, actor, name string) error {
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		old, err := plan(ctx, tx, name)
		switch {
		case err != nil:
			return event{}, err
		case old == nil:
			return event{}, fmt.Errorf("plan %q: %w", name, ErrNotFound)
		}
		if err := unused(ctx, tx, AppFilter{Plan: name}, "plan "+name+" is that of", "give another one there first"); err != nil {
			return event{}, err
		}
		return event{"plan.delete", name, old, nil, catalogChange}, tx.DeletePlan(ctx, name)
	})
}

// plan is the plan of that name, or nil.
func plan(ctx context.Context, r Reader, name string) (*Plan, error) {
	cat, err := r.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	for i := range cat.Plans {
		if cat.Plans[i].Name == name {
			return &cat.Plans[i], nil
		}
	}
	return nil, nil
}

// SetPlatformLimits limits all calls together; zero limits lift it.
func (s *Service) SetPlatformLimits(ctx context.Context, actor string, l Limits) error {
	if err := l.check(""); err != nil {
		return err
	}
	return s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		return event{"limits.set", "platform", cat.Platform, l, catalogChange}, tx.PutPlatformLimits(ctx, l)
	})
}
