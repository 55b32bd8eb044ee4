package api

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"testing"
)

// BenchmarkThousandContainers is what one question costs on a full host.
func BenchmarkThousandContainers(b *testing.B) {
	o := options()
	o.Monitor, o.Socket = "127.0.0.1:0", filepath.Join(b.TempDir(), "s")
	s, err := New((&fakeDaemon{extra: 1000}).backend(), o)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Bind(); err != nil {
		b.Fatal(err)
	}
	s.limiter.shared.SetLimit(1e9)
	s.limiter.global.SetLimit(1e9)
	s.Start()
	defer s.Close(context.Background())
	c := NewClient(s.Addr("socket"))
	defer c.Close()
	b.Run("status", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := OpStatus.Call(b.Context(), c, None{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scrape", func(b *testing.B) {
		b.ReportAllocs()
		s.limiter.bucket(clientKey("127.0.0.1:1"), someTime).SetLimit(1e9)
		for b.Loop() {
			resp, err := http.Get("http://" + s.Addr(Monitor) + "/metrics")
			if err != nil || resp.StatusCode != 200 {
				b.Fatal(resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	http.DefaultClient.CloseIdleConnections()
}
