package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// beyondLoopback is the error of a service that other machines can reach without protection.
const beyondLoopback = "cannot serve %s on %s: other machines can reach it, which needs TLS and a token. " +
	`Either set api.%s = "127.0.0.1:%d", or make both:
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$(hostname)" ` +
	`-addext "subjectAltName=DNS:$(hostname)" -keyout tls.key -out tls.crt
  T=$(openssl rand -hex 32); echo "operate:$(printf %%s "$T" | sha256sum | cut -d' ' -f1):me" > tokens; ` +
	`chmod 600 tokens tls.key; echo "$T"
and set api.tls_cert, api.tls_key and api.tokens_file to the three files`

// listenTCP binds a service. Beyond loopback it demands TLS and tokens.
func (s *Server) listenTCP(d *listener) (net.Listener, error) {
	at, err := net.ResolveTCPAddr("tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve %s on %s: %w; give host:port in api.%s", d.name, d.address, err, d.name)
	}
	if !at.IP.IsLoopback() && (s.tls == nil || len(s.tokens) == 0) {
		return nil, fmt.Errorf(beyondLoopback, d.name, d.address, d.name, at.Port)
	}
	ln, err := net.ListenTCP("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("cannot serve %s on %s: %w; %s", d.name, d.address, err, bindRemedy(d.name, err))
	}
	return ln, nil
}

func bindRemedy(service string, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("another program has it (ss -ltnp shows which): stop it, or set api.%s to another port", service)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("ports under 1024 are for root: set api.%s to a higher one", service)
	}
	return fmt.Sprintf("set api.%s to an address of this machine", service)
}

// socketName is the socket among the listeners.
const socketName = "socket"

// longestSocket is what sockaddr_un holds (unix(7): 108 with the NUL), less the
// ending under which the socket is made.
const longestSocket = 107 - len(newEnding)

const newEnding = ".new"

// listenUnix makes the socket for root, the daemon's user and one group. It is
// made under another name and moved when its mode is right, so that no process can
// open it before, and so that a dead daemon's socket is replaced.
func (s *Server) listenUnix(path string) (net.Listener, error) {
	fail := func(err error, remedy string) (net.Listener, error) { return nil, socketError(path, err, remedy) }
	if err := CheckSocket(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err, "set api.socket to a path that this user can make (--socket PATH)")
	}
	if err := replaceable(path); err != nil {
		return fail(err, "stop the other one, or set api.socket to another path")
	}
	temp := path + newEnding
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err, "remove "+temp)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return fail(err, "set api.socket to a path that this user can make (--socket PATH)")
	}
	ln.SetUnlinkOnClose(false)
	err = errors.Join(os.Chmod(temp, 0o660), chgrp(temp, s.socketGroup), os.Rename(temp, path))
	made, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		_ = ln.Close()
		_ = os.Remove(temp)
		return fail(err, "look at the permissions of "+filepath.Dir(path))
	}
	return &unixListener{UnixListener: ln, path: path, made: made}, nil
}

func socketError(path string, err error, remedy string) error {
	return fmt.Errorf("cannot make the socket %s: %w; %s", path, err, remedy)
}

var errNoSocketFile = errors.New("the path exists and is not a socket")

// CheckSocket reports why a path cannot become the socket.
func CheckSocket(path string) error {
	if len(path) > longestSocket {
		err := fmt.Errorf("the path has more than %d bytes", longestSocket)
		return socketError(path, err, "set api.socket to a shorter one")
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != os.ModeSocket {
		return socketError(path, errNoSocketFile, "remove it, or set api.socket to another path")
	}
	return nil
}

// chgrp is best effort for a daemon that is not root: its own group stays. A
// socket that has the group already is left alone: the unit of systemd/ runs in
// it and may not call chown.
func chgrp(path string, gid int) error {
	if gid == os.Getegid() {
		return nil
	}
	if err := os.Chown(path, -1, gid); err != nil && os.Geteuid() == 0 {
		return err
	}
	return nil
}

// replaceable reports whether path may become our socket: there is nothing, or
// the socket of a daemon that is dead.
func replaceable(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errNoSocketFile
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return errors.New("another daemon answers there")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// unixListener removes its socket when it is closed, unless another daemon has
// put its own there.
type unixListener struct {
	*net.UnixListener
	path string
	made os.FileInfo
	once sync.Once
}

func (l *unixListener) Close() error {
	l.once.Do(func() {
		if st, err := os.Lstat(l.path); err == nil && os.SameFile(st, l.made) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// limitConnections lets at most n connections be open; further ones wait in the
// kernel's queue.
func limitConnections(ln net.Listener, n int) net.Listener {
	return &limitedListener{Listener: ln, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limitedListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, slots: l.slots}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
	return err
}

// parseID reads a user or group id.
func parseID(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0
}
