package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// topicField is how errors name a field of a topic.
func topicField(t *Topic, field string) string { return t.Name + "." + field }

// checkTopics checks the topics of a file by themselves, without the store.
func checkTopics(f CatalogFile) error {
	seen := map[string]bool{}
	for i := range f.Topics {
		t := &f.Topics[i]
		if err := checkTopic(fmt.Sprintf("topics[%d]", i), t); err != nil {
			return err
		}
		if t.Source != f.Source {
			return &FieldError{Field: topicField(t, "source"), Problem: fmt.Sprintf("%q is not the file's", t.Source), Want: f.Source}
		}
		if seen[t.Name] {
			return &FieldError{Field: topicField(t, "name"), Problem: "is declared twice", Want: "each topic once"}
		}
		seen[t.Name] = true
	}
	return nil
}

// checkTopic checks one topic; place names it as long as it has no proper name.
func checkTopic(place string, t *Topic) error {
	if err := checkTopicName(place+".name", t.Name); err != nil {
		return err
	}
	if err := checkText(topicField(t, "title"), t.Title, 0, maxTitle); err != nil {
		return err
	}
	if err := checkText(topicField(t, "description"), t.Description, 0, maxDescription); err != nil {
		return err
	}
	if err := checkName(topicField(t, "package"), t.Package); err != nil {
		return err
	}
	if t.Status != "" {
		if err := checkAPIStatus(topicField(t, "status"), t.Status); err != nil {
			return err
		}
	}
	for field, text := range map[string]json.RawMessage{"schema": t.Schema, "example": t.Example, "spec": t.Spec} {
		if text != nil && (!json.Valid(text) || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0) {
			return &FieldError{Field: topicField(t, field), Problem: "is no JSON", Want: "JSON in UTF-8"}
		}
	}
	return nil
}

func checkTopicName(field, s string) error {
	if len(s) > 128 || !apiName.MatchString(s) {
		return &FieldError{Field: field, Problem: fmt.Sprintf("%q is no topic's name", s), Want: `words joined by dots: "trade.order.created"`}
	}
	return nil
}

// addTopics compares the file's topics with those of the store. Packages are
// those that there will be.
func (p *catalogPlan) addTopics(cat *Catalog, f CatalogFile, packages map[string]bool) error {
	for _, t := range f.Topics {
		if !packages[t.Package] {
			p.mistakes.Add(f.mistake("topic", t.Name, noPackage(topicField(&t, "package"), t.Package)))
		}
		old := cat.topic(t.Name)
		switch {
		case old == nil && t.Status == "":
			t.Status = Online
		case old != nil && old.Source != t.Source:
			p.mistakes.Add(f.mistake("topic", t.Name, declaredAlready("topic "+t.Name, t.Source, old.Source)))
			continue
		case t.Status == "":
			t.Status = old.Status
		}
		if old == nil {
			p.diff.Changes = append(p.diff.Changes, CatalogChange{Kind: "topic", Name: t.Name, Action: "add", After: t})
		} else if changed, err := p.compare("topic", t.Name, old, t); err != nil {
			return err
		} else if !changed {
			continue
		}
		p.topics = append(p.topics, t)
	}
	for _, old := range cat.Topics {
		if old.Source == f.Source && old.Status != Offline && !slices.ContainsFunc(f.Topics, func(t Topic) bool { return t.Name == old.Name }) {
			gone := old
			gone.Status = Offline
			p.topics = append(p.topics, gone)
			p.diff.Changes = append(p.diff.Changes, CatalogChange{
				Kind: "topic", Name: old.Name, Action: "offline", Fields: []string{"status"},
				Before: map[string]any{"status": old.Status}, After: map[string]any{"status": Offline},
			})
		}
	}
	return nil
}
