package store

import (
	"context"
	"database/sql"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// limitScope tells whose limits a row of the table holds.
type limitScope string

const (
	limitPlatform    limitScope = "platform"
	limitAPI         limitScope = "api"
	limitPlanApp     limitScope = "plan_app"
	limitPlanAppAPI  limitScope = "plan_app_api"
	limitPlanAppUser limitScope = "plan_app_user"
	limitPlanAPI     limitScope = "plan_api"
)

// limitKey names a row: owner is a plan or an API's ID, api the API's name for
// the scope plan_api.
type limitKey struct {
	scope      limitScope
	owner, api string
}

func (r *reader) loadLimits(ctx context.Context) (map[limitKey]platform.Limits, error) {
	all := map[limitKey]platform.Limits{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		var k limitKey
		var l platform.Limits
		err := rows.Scan(&k.scope, &k.owner, &k.api, &l.Rate.Requests, &l.Rate.Period, &l.Rate.Burst, &l.Quota.Day, &l.Quota.Month)
		all[k] = l
		return err
	}, `SELECT scope, owner, api, rate_requests, rate_period, rate_burst, quota_day, quota_month FROM limits`)
	return all, err
}

// putLimits writes one row. Zero limits have none, but for single APIs of a
// plan, where they lift the limit for all APIs.
func (t *tx) putLimits(ctx context.Context, k limitKey, l platform.Limits) error {
	if l.IsZero() && k.scope != limitPlanAPI {
		_, err := t.exec(ctx, `DELETE FROM limits WHERE scope = ? AND owner = ? AND api = ?`, k.scope, k.owner, k.api)
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO limits (scope, owner, api, rate_requests, rate_period, rate_burst, quota_day, quota_month)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (scope, owner, api) DO UPDATE SET rate_requests = excluded.rate_requests, rate_period = excluded.rate_period,
			rate_burst = excluded.rate_burst, quota_day = excluded.quota_day, quota_month = excluded.quota_month`,
		k.scope, k.owner, k.api, l.Rate.Requests, int64(l.Rate.Period), l.Rate.Burst, l.Quota.Day, l.Quota.Month)
	return err
}

func (t *tx) dropLimits(ctx context.Context, scope limitScope, owner string) error {
	_, err := t.exec(ctx, `DELETE FROM limits WHERE scope = ? AND owner = ?`, scope, owner)
	return err
}

// PutPlatformLimits limits all calls together.
func (t *tx) PutPlatformLimits(ctx context.Context, l platform.Limits) error {
	return t.putLimits(ctx, limitKey{scope: limitPlatform}, l)
}

func (r *reader) loadPlans(ctx context.Context, c *platform.Catalog, limits map[limitKey]platform.Limits) error {
	index := map[string]int{}
	err := r.each(ctx, func(rows *sql.Rows) error {
		var p platform.Plan
		err := rows.Scan(&p.Name, &p.Title)
		p.App = limits[limitKey{scope: limitPlanApp, owner: p.Name}]
		p.AppAPI = limits[limitKey{scope: limitPlanAppAPI, owner: p.Name}]
		p.AppUser = limits[limitKey{scope: limitPlanAppUser, owner: p.Name}]
		index[p.Name] = len(c.Plans)
		c.Plans = append(c.Plans, p)
		return err
	}, `SELECT name, title FROM plans ORDER BY name`)
	if err != nil {
		return err
	}
	for k, l := range limits {
		if i, ok := index[k.owner]; ok && k.scope == limitPlanAPI {
			if c.Plans[i].APIs == nil {
				c.Plans[i].APIs = map[string]platform.Limits{}
			}
			c.Plans[i].APIs[k.api] = l
		}
	}
	return nil
}

// PutPlan writes a plan and replaces its limits.
func (t *tx) PutPlan(ctx context.Context, p *platform.Plan) error {
	_, err := t.exec(ctx, `INSERT INTO plans (name, title) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET title = excluded.title`, p.Name, p.Title)
	if err != nil {
		return named(err, "plan %q", p.Name)
	}
	for scope, l := range map[limitScope]platform.Limits{limitPlanApp: p.App, limitPlanAppAPI: p.AppAPI, limitPlanAppUser: p.AppUser} {
		if err := t.putLimits(ctx, limitKey{scope: scope, owner: p.Name}, l); err != nil {
			return err
		}
	}
	if err := t.dropLimits(ctx, limitPlanAPI, p.Name); err != nil {
		return err
	}
	for api, l := range p.APIs {
		if err := t.putLimits(ctx, limitKey{limitPlanAPI, p.Name, api}, l); err != nil {
			return err
		}
	}
	return nil
}

// DeletePlan removes a plan; ErrConflict while an app is under it.
func (t *tx) DeletePlan(ctx context.Context, name string) error {
	if err := t.delete(ctx, "plan", `DELETE FROM plans WHERE name = ?`, name); err != nil {
		return err
	}
	for _, scope := range []limitScope{limitPlanApp, limitPlanAppAPI, limitPlanAppUser, limitPlanAPI} {
		if err := t.dropLimits(ctx, scope, name); err != nil {
			return err
		}
	}
	return nil
}
