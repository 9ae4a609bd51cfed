package platform

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Topics lists the topics that f selects, by name.
func (s *Service) Topics(ctx context.Context, f TopicFilter) ([]Topic, error) {
	if f.Status != "" {
		if err := checkAPIStatus("status", f.Status); err != nil {
			return nil, err
		}
	}
	cat, err := s.store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(cat.Topics, func(t Topic) bool { return !f.matches(&t) }), nil
}

func (f TopicFilter) matches(t *Topic) bool {
	text := strings.ToLower(f.Text)
	return (f.Status == "" || t.Status == f.Status) &&
		(f.Package == "" || t.Package == f.Package) &&
		(text == "" || strings.Contains(strings.ToLower(t.Name+"\n"+t.Title+"\n"+t.Description), text))
}

// Topic loads one topic.
func (s *Service) Topic(ctx context.Context, name string) (*Topic, error) {
	cat, err := s.store.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	if t := cat.topic(name); t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("topic %q: %w", name, ErrNotFound)
}

// topic is the topic of that name, or nil.
func (c *Catalog) topic(name string) *Topic {
	for i := range c.Topics {
		if c.Topics[i].Name == name {
			return &c.Topics[i]
		}
	}
	return nil
}

// SetTopicStatus moves a topic through its life. Messages of one that is
// offline are refused; subscriptions of it stay.
func (s *Service) SetTopicStatus(ctx context.Context, actor, name string, st APIStatus) (*Topic, error) {
	if err := checkAPIStatus("status", st); err != nil {
		return nil, err
	}
	var t *Topic
	err := s.update(ctx, actor, func(tx Tx) (event, error) {
		cat, err := tx.Catalog(ctx)
		if err != nil {
			return event{}, err
		}
		if t = cat.topic(name); t == nil {
			return event{}, fmt.Errorf("topic %q: %w", name, ErrNotFound)
		}
		before := map[string]APIStatus{"status": t.Status}
		t.Status = st
		return event{"topic." + string(st), t.Name, before, map[string]APIStatus{"status": st}, catalogChange}, tx.PutTopic(ctx, t)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}
