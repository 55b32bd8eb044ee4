package e2e

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between a daemon and the real Engine, and can be ill.
type proxy struct {
	path  string
	back  *httputil.ReverseProxy
	http  *http.Server
	mu    sync.Mutex
	mode  string
	delay time.Duration
	turn  chan struct{} // closed when the mode changes
	count int           // requests since then
}

// The ways in which it can be ill.
const (
	well      = ""
	hangs     = "hangs"     // takes requests and never answers
	drops     = "drops"     // closes each connection at once, and those that are open
	slow      = "slow"      // answers late
	fails     = "500"       // an Engine in trouble
	html      = "html"      // something else than an Engine, with 200
	truncated = "truncated" // half an answer
)

func newProxy(t *testing.T, path string) *proxy {
	t.Helper()
	p := &proxy{path: path, turn: make(chan struct{})}
	at, _ := url.Parse("http://docker")
	p.back = httputil.NewSingleHostReverseProxy(at)
	p.back.FlushInterval = -1 // events are a stream
	p.back.Transport = rig.docker.Transport()
	p.back.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p.http = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	over := make(chan struct{})
	go func() { defer close(over); _ = p.http.Serve(ln) }()
	t.Cleanup(func() { p.set(drops, 0); _ = p.http.Close(); <-over })
	return p
}

// set changes the mode; what is under way in the old one is cut off.
func (p *proxy) set(mode string, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode, p.delay, p.count = mode, delay, 0
	close(p.turn)
	p.turn = make(chan struct{})
}

func (p *proxy) requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.count++
	mode, delay, turn := p.mode, p.delay, p.turn
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-turn:
			cancel()
		case <-ctx.Done():
		}
	}()
	switch mode {
	case well:
		p.back.ServeHTTP(w, r.WithContext(ctx))
	case slow:
		select {
		case <-time.After(delay):
			p.back.ServeHTTP(w, r.WithContext(ctx))
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		}
	case hangs:
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	case drops:
		panic(http.ErrAbortHandler)
	case fails:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"message":"no space left on device"}`))
	case html:
		_, _ = w.Write([]byte("<html><body>" + strings.Repeat("It works! ", 100) + "</body></html>"))
	case truncated:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "4000")
		_, _ = w.Write([]byte(`[{"Id":"0123456789ab`))
	}
}
