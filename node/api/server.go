package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Options are where the services listen and which clients they serve.
type Options struct {
	// Monitor, Controller and Execution are host:port; port 0 takes a free one;
	// "" leaves the service out.
	Monitor, Controller, Execution string
	// Socket is the path of the unix socket for the commands; "" for none.
	Socket string
	// SocketGroup may open it; "" or a group that does not exist: the daemon's own.
	SocketGroup string
	// TokensFile holds role:sha256hex[:name] lines. Where it is given, every
	// HTTP request needs a token. TLSCert and TLSKey are PEM files; where they
	// are given, all three services speak TLS 1.2 or newer.
	TokensFile, TLSCert, TLSKey string
	// Hosts are further names, or name:port, that a Host header may hold.
	Hosts   []string
	Log     zerolog.Logger
	Version string
	// Metrics is what the node counts; nil: the server makes its own.
	Metrics *Metrics
}

// limits bound what one client can hold. Tests make them shorter.
type limits struct {
	readHeader, read, write, idle time.Duration
	handle                        time.Duration // a call of one of the services
	command                       time.Duration // a call of the socket: restore takes a while
	connections                   int
	headerBytes                   int
}

func defaultLimits() limits {
	return limits{
		readHeader:  5 * time.Second,
		read:        10 * time.Second,
		write:       15 * time.Second,
		idle:        30 * time.Second,
		handle:      12 * time.Second,
		command:     2 * time.Minute,
		connections: 256,
		headerBytes: 16 << 10,
	}
}

// stopGrace is how long Close lets calls finish.
const stopGrace = 500 * time.Millisecond

// Server is the three services and the socket of one daemon.
type Server struct {
	b           Backend
	o           Options
	limits      limits
	metrics     *Metrics
	limiter     *limiter
	tokens      []token
	tls         *tls.Config
	names       []string
	crossOrigin *http.CrossOriginProtection
	socketGroup int

	listeners []*listener
	wait      sync.WaitGroup
	failed    chan error
	closed    sync.Once

	mu    sync.Mutex
	ended bool // guarded by mu: Close was called, nothing starts any more
}

// listener is a service or the socket, and the HTTP server behind it.
type listener struct {
	name    string
	address string
	handler http.Handler
	ln      net.Listener
	http    *http.Server
}

// New checks the options and builds the services; nothing listens yet.
func New(b Backend, o Options) (*Server, error) {
	s := &Server{b: b, o: o, limits: defaultLimits(), metrics: o.Metrics, limiter: newLimiter(),
		crossOrigin: http.NewCrossOriginProtection(), failed: make(chan error, 4), socketGroup: groupID(o.SocketGroup)}
	if s.metrics == nil {
		s.metrics = NewMetrics(o.Version)
	}
	secrets, err := readSecrets(o)
	if err != nil {
		return nil, err
	}
	s.tokens, s.tls = secrets.tokens, secrets.tls
	s.names = append(s.names, o.Hosts...)
	services := []struct{ name, address string }{
		{Monitor, o.Monitor}, {Controller, o.Controller}, {Execution, o.Execution}}
	for _, at := range services {
		if at.address == "" {
			continue
		}
		host, _, err := net.SplitHostPort(at.address)
		if err == nil && host != "" && host != "localhost" && net.ParseIP(host) == nil {
			s.names = append(s.names, host) // bound by name: the name is the address
		}
		h, err := s.serviceHandler(at.name)
		if err != nil {
			return nil, err
		}
		s.listeners = append(s.listeners, &listener{name: at.name, address: at.address, handler: h})
	}
	if o.Socket != "" {
		h, err := s.socketHandler()
		if err != nil {
			return nil, err
		}
		s.listeners = append(s.listeners, &listener{name: socketName, address: o.Socket, handler: h})
	}
	if err := s.metrics.watch(b.Node); err != nil {
		return nil, err
	}
	if err := CheckLocalUsers(); err != nil && len(s.tokens) == 0 {
		o.Log.Warn().Err(err).Msg("the three services refuse all changes: cannot find the local user of a connection")
	}
	return s, nil
}

func (s *Server) serviceHandler(name string) (http.Handler, error) {
	mux, err := s.serviceMux(name)
	if err != nil {
		return nil, err
	}
	checks := []check{s.admitHost, s.admitRate, admitPath, s.admitToken, admitRoute(mux), s.admitBrowser, admitBody}
	return s.guarded(name, mux, s.limits.handle, checks), nil
}

// Bind opens every listener before any serves; on an error it closes them all.
func (s *Server) Bind() error {
	for _, d := range s.listeners {
		var err error
		if d.name == socketName {
			d.ln, err = s.listenUnix(d.address)
		} else {
			d.ln, err = s.listenTCP(d)
		}
		if err != nil {
			s.closeListeners()
			return err
		}
		d.ln = limitConnections(d.ln, s.limits.connections)
		if s.tls != nil && d.name != socketName {
			d.ln = tls.NewListener(d.ln, s.tls)
		}
	}
	return nil
}

func (s *Server) closeListeners() {
	for _, d := range s.listeners {
		if d.ln != nil {
			_ = d.ln.Close()
		}
	}
}

// Addr is where a service listens after Bind: host:port, or the socket's path
// for "socket"; "" for a service that does not.
func (s *Server) Addr(service string) string {
	for _, d := range s.listeners {
		if d.name == service && d.ln != nil {
			if d.name == socketName {
				return d.address
			}
			return d.ln.Addr().String()
		}
	}
	return ""
}

// Start serves what Bind opened, and returns at once; after Close it does nothing.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	for _, d := range s.listeners {
		if d.ln == nil {
			continue
		}
		d.http = s.httpServer(d)
		s.o.Log.Debug().Str("service", d.name).Str("address", s.Addr(d.name)).
			Bool("tls", s.tls != nil && d.name != socketName).Msg("serving")
		s.wait.Go(func() {
			if err := d.http.Serve(d.ln); !errors.Is(err, http.ErrServerClosed) {
				s.failed <- fmt.Errorf("stopped serving %s on %s: %w", d.name, d.address, err)
			}
		})
	}
}

func (s *Server) httpServer(d *listener) *http.Server {
	srv := &http.Server{
		Handler:           d.handler,
		ReadHeaderTimeout: s.limits.readHeader,
		ReadTimeout:       s.limits.read,
		WriteTimeout:      s.limits.write,
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    s.limits.headerBytes,
		// OPTIONS * would bypass the checks.
		DisableGeneralOptionsHandler: true,

		ErrorLog: log.New(debugLog{s.o.Log}, "", 0),
	}
	srv.ConnContext = withTCPPeer
	if d.name == socketName {
		srv.WriteTimeout = s.limits.command + 5*time.Second
		srv.ConnContext = withPeer
	}
	return srv
}

// debugLog takes net/http's errors about clients.
type debugLog struct{ log zerolog.Logger }

func (l debugLog) Write(b []byte) (int, error) {
	l.log.Debug().Str("error", quote(string(b))).Msg("http server")
	return len(b), nil
}

// Serve starts, and returns when ctx ends (nil) or a listener fails; the server
// is closed then.
func (s *Server) Serve(ctx context.Context) error {
	s.Start()
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.Close(context.WithoutCancel(ctx))
	return err
}

// Close stops listening, lets running calls finish for half a second at most,
// then cuts them, and removes the socket. It may be called again.
func (s *Server) Close(ctx context.Context) {
	s.closed.Do(func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(ctx, stopGrace)
		defer cancel()
		var each sync.WaitGroup
		for _, d := range s.listeners {
			if d.http == nil {
				continue
			}
			each.Go(func() {
				if d.http.Shutdown(ctx) != nil {
					_ = d.http.Close()
				}
			})
		}
		each.Wait()
		s.closeListeners()
		s.wait.Wait()
		s.metrics.unwatch()
	})
}
