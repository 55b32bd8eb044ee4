package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
	"github.com/sony/gobreaker/v2"

	"github.com/effiscale/effiscale/knowledge"
)

// DefaultHost is where the Engine listens by default.
const DefaultHost = "unix:///var/run/docker.sock"

// MinAPI is the oldest supported API: that of Engine 20.10, the first with one-shot
// statistics and cgroup v2.
const MinAPI = "1.41"

// Options configure a Client; the zero value of every field is its default.
type Options struct {
	Host string // DefaultHost; unix:///path or tcp://host:port (plain: for a tunnel or a proxy on this host)
	// CertDir has the certificates for TLS with a tcp address; "": none.
	CertDir string
	// Deadlines of one call. An update starts a runc process, which took 52 ms
	// at the 95th percentile.
	UpdateTimeout  time.Duration // 10 s
	InspectTimeout time.Duration // 5 s, also for statistics
	ListTimeout    time.Duration // 10 s
	// Cooldown is how long the circuit breaker stays open after five failures in a row; 3 s.
	Cooldown time.Duration
	// ResyncEvery is how often Watch asks for a new listing; 30 s.
	ResyncEvery time.Duration
	Log         zerolog.Logger
	// Observe is called after every request, with its HTTP status (0: no answer).
	// It must be quick and may be called from several goroutines at once.
	Observe func(op string, status int, took time.Duration)
}

// Client is a connection to one Engine. It is safe for concurrent use.
type Client struct {
	o                      Options
	host, network, address string
	http                   *http.Transport
	breaker                *gobreaker.CircuitBreaker[struct{}]
	access                 access
	negotiating            chan struct{} // a semaphore: one negotiation at a time

	mu        sync.Mutex // guards what follows
	session   *session   // nil: to be negotiated
	connected bool
	since     time.Time // of connected
	lastErr   string
	lastKind  Kind
	hadOne    bool // it was connected before
}

// session is a client of the API version that the running Engine negotiated.
type session struct {
	c       *Client
	api     *client.Client
	version string         // of the Engine's API; the client's own may be older
	mu      sync.Mutex     // guards what follows
	host    knowledge.Host // CPUs 0: not read yet
	engine  string         // name and version of one that is not Docker's
}

// operation is a kind of call: its name in metrics and errors.
type operation struct {
	name  string
	bound int64
}

var (
	opPing         = operation{"ping", otherBound}
	opInfo         = operation{"info", otherBound}
	opList         = operation{"list", listBound}
	opInspect      = operation{"inspect", otherBound}
	opUpdateCPU    = operation{"update_cpu", otherBound}
	opUpdateMemory = operation{"update_memory", otherBound}
	opUpdateShares = operation{"update_shares", otherBound}
	opStats        = operation{"stats", otherBound}
	opEvents       = operation{"events", eventBound}
	opCreate       = operation{"create", otherBound}
	opStart        = operation{"start", otherBound}
	opStop         = operation{"stop", otherBound}
	opRestart      = operation{"restart", otherBound}
	opRemove       = operation{"remove", otherBound}

	opImport      = operation{"import", otherBound}
	opImage       = operation{"image", otherBound}
	opTag         = operation{"tag", otherBound}
	opRemoveImage = operation{"remove_image", otherBound}

	opCreateNetwork  = operation{"create_network", otherBound}
	opRemoveNetwork  = operation{"remove_network", otherBound}
	opConnectNetwork = operation{"connect_network", otherBound}
)

// Open makes a client without connecting: an Engine that is not up yet is an error of
// the calls.
func Open(o Options) (*Client, error) {
	if o.Host == "" {
		o.Host = DefaultHost
	}
	orDefault(&o.UpdateTimeout, 10*time.Second)
	orDefault(&o.InspectTimeout, 5*time.Second)
	orDefault(&o.ListTimeout, 10*time.Second)
	orDefault(&o.Cooldown, 3*time.Second)
	orDefault(&o.ResyncEvery, 30*time.Second)
	network, address, err := parseHost(o.Host)
	if err != nil {
		return nil, err
	}
	secrets, err := certificates(o.CertDir, address)
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, host: o.Host, network: network, address: address,
		http:        transport(network, address),
		negotiating: make(chan struct{}, 1),
		since:       time.Now(),
		lastErr:     "not connected yet",
		access:      access{log: o.Log, refused: map[string]string{}},
	}
	c.http.TLSClientConfig = secrets
	c.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:    "docker",
		Timeout: o.Cooldown,
		// Five: a restart of the Engine breaks the few calls in progress, which
		// should not open the breaker.
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= 5 },
		IsSuccessful: func(err error) bool { return err == nil || !engineTrouble(err) },
		IsExcluded: func(err error) bool {
			e, ok := errors.AsType[*Error](err)
			return ok && (e.Kind == KindCanceled || e.early)
		},
		OnStateChange: func(_ string, from, to gobreaker.State) {
			o.Log.Debug().Str("from", from.String()).Str("to", to.String()).Msg("circuit breaker changed state")
		},
	})
	return c, nil
}

// Close closes idle connections. Later calls open new ones.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// State returns whether the Engine is connected, since when, and the last error ("" if
// it is connected).
func (c *Client) State() (connected bool, since time.Time, lastErr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, c.since, c.lastErr
}

// do makes one call within the circuit breaker and its deadline, and classifies its error.
func (c *Client) do(ctx context.Context, op operation, id string, timeout time.Duration,
	call func(context.Context, *session) error,
) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, x := withExchange(ctx, op.bound)
	x.enough = min(patience, timeout)
	_, err := c.breaker.Execute(func() (struct{}, error) {
		s, err := c.attach(ctx)
		if err == nil {
			err = call(ctx, s)
		}
		if err == nil {
			c.reached()
			if x.status.Load() == http.StatusOK {
				c.access.note(op.name, nil)
			}
			return struct{}{}, nil
		}
		e := c.classify(op, id, x, err)
		c.access.note(op.name, e)
		if e.Status != 0 && !engineTrouble(e) {
			c.reached() // it answered
		}
		c.failed(s, e)
		return struct{}{}, e
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return c.shortcut(op, id)
	}
	if c.o.Observe != nil {
		c.o.Observe(op.name, x.code(op), time.Since(began))
	}
	return err
}

// shortcut is the error of a call while the breaker is open.
func (c *Client) shortcut(op operation, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Error{Op: op.name, ID: id, Kind: c.lastKind, unsent: true, Message: "circuit breaker open: " + c.lastErr}
}

// attach returns the session, and negotiates one if there is none: one caller at a
// time, the others wait for it until their deadline.
func (c *Client) attach(ctx context.Context) (*session, error) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	select {
	case c.negotiating <- struct{}{}:
		defer func() { <-c.negotiating }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	s = c.session
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := c.negotiate(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	return s, nil
}

// scheme is that of requests.
func (s *session) scheme() string {
	if s.c.http.TLSClientConfig != nil {
		return "https"
	}
	return "http"
}

func (c *Client) negotiate(ctx context.Context) (*session, error) {
	s := &session{c: c}
	api, err := client.NewClientWithOpts(
		client.WithHost(c.host),
		client.WithHTTPClient(&http.Client{Transport: &meter{c.http}, CheckRedirect: client.CheckRedirect}),
		client.WithAPIVersionNegotiation(),
		client.WithScheme(s.scheme()),
		client.WithUserAgent("effiscale"),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for Docker host %q: %w", c.host, err)
	}
	s.api = api
	ping, err := s.ping(ctx)
	if err != nil {
		return nil, err
	}
	if !isVersion(ping.APIVersion) {
		return nil, &Error{Op: opPing.name, Kind: KindUnreachable,
			Message: fmt.Sprintf("%s is not a Docker Engine: its answer has no API version", c.host)}
	}
	if versions.LessThan(ping.APIVersion, MinAPI) {
		return nil, &Error{Op: opPing.name, Kind: KindRefused,
			Message: fmt.Sprintf("the Docker Engine has API %s, at least %s is required (Engine 20.10 or newer)",
				ping.APIVersion, MinAPI)}
	}
	api.NegotiateAPIVersionPing(ping)
	s.version = ping.APIVersion
	c.access.mu.Lock()
	c.access.checked = false // another Engine, or other rules
	c.access.mu.Unlock()
	return s, nil
}

// current is the session in use, one without an API where there is none.
func (c *Client) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return &session{c: c}
	}
	return c.session
}

// isVersion accepts "1.41": up to three digits, a dot, up to three digits.
func isVersion(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	digits := func(s string) bool {
		return s != "" && len(s) <= 3 && strings.Trim(s, "0123456789") == ""
	}
	return ok && digits(major) && digits(minor)
}

// engineTrouble reports whether the error is one of the Engine, not of this request.
func engineTrouble(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && !e.early && (e.Kind == KindUnreachable || e.Kind == KindTimeout || e.Kind == KindPermission)
}

// reached records that the Engine answered.
func (c *Client) reached() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connected {
		return
	}
	now := time.Now()
	if c.hadOne {
		c.o.Log.Info().Dur("after", now.Sub(c.since)).Msg("Docker Engine reachable again")
	}
	c.connected, c.since, c.lastErr, c.hadOne = true, now, "", true
}

// failed records an error of s (nil: none was negotiated). A broken connection ends the
// session: the Engine may come back in another version.
func (c *Client) failed(s *session, e *Error) {
	stale := e.Kind == KindUnreachable ||
		e.Status == http.StatusBadRequest && strings.Contains(e.Message, "client version")
	c.mu.Lock()
	defer c.mu.Unlock()
	if stale && s != nil && c.session == s {
		c.session = nil
		c.http.CloseIdleConnections()
	}
	if !engineTrouble(e) {
		return
	}
	c.lastErr, c.lastKind = e.Message, e.Kind
	if c.connected {
		c.connected, c.since = false, time.Now()
		c.o.Log.Warn().Str("op", e.Op).Str("kind", e.Kind.String()).Str("error", e.Message).Msg("Docker Engine unreachable")
	}
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}
