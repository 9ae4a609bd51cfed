package pusher

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// benchMessage has data of about 1 KiB.
func benchMessage() *Message {
	return &Message{
		ID: MessageID{1, 2}, Environment: platform.Production, Topic: "item.changed", Time: time.Unix(1e9, 0),
		Data: []byte(`{"id":7,"note":"` + strings.Repeat("x", 1000) + `"}`),
	}
}

func BenchmarkSeal(b *testing.B) {
	s, err := newSubscriber(new(testApp(1)))
	require.NoError(b, err)
	e := newEvent(benchMessage(), jsonString("https://open.example.com"))
	sealer := s.sealers[platform.Production][0]
	defer cpuMetric(b)()
	for b.Loop() {
		if _, err := sealer.seal(rand.Reader, e, s.key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSealJOSE does the same with a library.
func BenchmarkSealJOSE(b *testing.B) {
	s, err := newSubscriber(new(testApp(1)))
	require.NoError(b, err)
	e := newEvent(benchMessage(), jsonString("https://open.example.com"))
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.A256KW, Key: testKey(1), KeyID: "ak_1.1"},
		(&jose.EncrypterOptions{}).WithContentType("application/cloudevents+json"))
	require.NoError(b, err)
	defer cpuMetric(b)()
	for b.Loop() {
		object, err := encrypter.Encrypt(e.appendTo(nil, s.key))
		if err != nil {
			b.Fatal(err)
		}
		text, err := object.CompactSerialize()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(map[string]string{"encrypt": text}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	s, err := newSubscriber(new(testApp(1)))
	require.NoError(b, err)
	body := bytes.Repeat([]byte("x"), 1600)
	for _, asymmetric := range []bool{false, true} {
		b.Run(fmt.Sprintf("asymmetric=%v", asymmetric), func(b *testing.B) {
			defer cpuMetric(b)()
			for b.Loop() {
				if _, _, err := s.signers[platform.Production].sign("msg_00000000000000000000000000", time.Unix(1e9, 0), body, asymmetric); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchSink counts requests.
func benchSink(b *testing.B) (*httptest.Server, *atomic.Int64) {
	b.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
	}))
	b.Cleanup(s.Close)
	return s, &n
}

// benchConcurrency is how many requests are under way.
const benchConcurrency = 64

// BenchmarkDeliver drains a backlog to one endpoint and to 100, sealed, signed and
// recorded in memory. Sink and pusher share the process: cpu-µs/op has both.
func BenchmarkDeliver(b *testing.B) {
	for _, endpoints := range []int{1, 100} {
		b.Run(fmt.Sprintf("endpoints=%d", endpoints), func(b *testing.B) {
			sink, got := benchSink(b)
			var apps []platform.Subscriber
			for i := range endpoints {
				apps = append(apps, testApp(uint64(i+1), platform.Subscription{URL: sink.URL, Topics: []string{"item.changed"}, Concurrency: 1000}))
			}
			f := newFixture(b, Settings{Workers: benchConcurrency}, apps...)
			f.store.hook = nil
			b.ReportAllocs()
			m := benchMessage()
			e := newEvent(m, f.source)
			d, err := f.directory(b.Context())
			require.NoError(b, err)
			for i := range b.N {
				app := uint64(i%endpoints + 1)
				body, number, err := f.makeBody(e, d.app(app), platform.Production, platform.EncryptedFormat, time.Now())
				require.NoError(b, err)
				f.store.insert(*m, NewDelivery{Subscription: 10 * app, App: app, Body: body, KeyNumber: number})
			}
			done := make(chan struct{})
			var left atomic.Int64
			left.Store(int64(b.N))
			f.store.hook = func(Completion) {
				if left.Add(-1) == 0 {
					close(done)
				}
			}
			b.ResetTimer()
			cpu := cpuTime()
			run(b, f.Pusher)
			<-done
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			require.GreaterOrEqual(b, got.Load(), int64(b.N))
		})
	}
}

// BenchmarkBare posts ready bodies with as many requests at once, and keeps
// nothing: what the pusher is measured against.
func BenchmarkBare(b *testing.B) {
	sink, _ := benchSink(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchConcurrency}}
	defer client.CloseIdleConnections()
	target, err := url.Parse(sink.URL)
	require.NoError(b, err)
	body := bytes.Repeat([]byte("x"), 1700)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	var next atomic.Int64
	var all sync.WaitGroup
	for range benchConcurrency {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				r, err := client.Post(target.String(), "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpuMetric reports what an iteration used of the processor: it says more than
// the clock does on a machine that has other things to do.
func cpuMetric(b *testing.B) func() {
	b.Helper()
	b.ReportAllocs()
	began := cpuTime()
	return func() { b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/1000/float64(b.N), "cpu-µs/op") }
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
