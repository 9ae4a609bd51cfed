package pusher

import (
	"encoding/json"
	"time"
)

// maxData is the largest data of a message.
const maxData = 256 << 10

// event is a message as a CloudEvents 1.0 event in the JSON format: everything
// but the extension appkey, which differs from app to app.
type event struct {
	// head is the opening up to where the appkey goes.
	head []byte
	data []byte
}

// newEvent makes the event of a message. source is a JSON string.
func newEvent(m *Message, source []byte) event {
	h := make([]byte, 0, 256+len(source)+len(m.Topic)+len(m.User))
	h = append(h, `{"specversion":"1.0","id":"`...)
	h = append(h, m.ID.String()...)
	h = append(h, `","source":`...)
	h = append(h, source...)
	h = append(h, `,"type":`...)
	h = append(h, jsonString(m.Topic)...)
	if m.User != "" {
		h = append(h, `,"subject":`...)
		h = append(h, jsonString(m.User)...)
	}
	t := m.Time
	if t.IsZero() {
		t = time.UnixMicro(m.ID.At)
	}
	h = append(h, `,"time":"`...)
	h = t.UTC().AppendFormat(h, time.RFC3339Nano)
	h = append(h, `","datacontenttype":"application/json","appkey":`...)
	return event{head: h, data: m.Data}
}

// appendTo writes the event for the app whose key, as a JSON string, is given.
func (e event) appendTo(b, appKey []byte) []byte {
	b = append(b, e.head...)
	b = append(b, appKey...)
	b = append(b, `,"data":`...)
	b = append(b, e.data...)
	return append(b, '}')
}

// jsonString is s as a JSON string; what is no UTF-8 in it is replaced.
func jsonString(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic("pusher: a string as JSON: " + err.Error()) // the standard library never fails here
	}
	return b
}
