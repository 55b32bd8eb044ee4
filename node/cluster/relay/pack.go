package relay

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"sync"
)

const (
	// packAbove: below it the bytes saved are about those of one TCP header.
	packAbove = 1 << 10
	// packers at a time: each has tables of about a megabyte, and two cores are
	// what a small host has.
	packers  = 2
	encoding = "deflate" // raw, RFC 1951
)

// errBody is a body beyond its bound, errBusy one for which there is no memory now.
var (
	errBody = errors.New("larger than the limit")
	errBusy = errors.New("overloaded, retry later")
)

// packer compresses, and reads what is compressed, each within a bound.
type packer struct {
	writers chan *flate.Writer // nil: not made yet
	readers sync.Pool
}

func newPacker() *packer {
	k := &packer{writers: make(chan *flate.Writer, packers)}
	for range packers {
		k.writers <- nil
	}
	return k
}

// pack returns b, or its compressed form where that is shorter.
func (k *packer) pack(b []byte) (out []byte, packed bool) {
	if len(b) <= packAbove {
		return b, false
	}
	w := <-k.writers
	defer func() { k.writers <- w }()
	var buf bytes.Buffer
	buf.Grow(len(b) / 2)
	if w == nil {
		w, _ = flate.NewWriter(&buf, flate.BestSpeed) // the level is valid
	} else {
		w.Reset(&buf)
	}
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil || buf.Len() >= len(b) {
		return b, false
	}
	return buf.Bytes(), true
}

// unpack reads all of from, at most limit bytes once they are unpacked. take is
// asked before each piece is kept; nil: always.
func (k *packer) unpack(raw io.Reader, packed bool, limit int64, take func(int64) bool) ([]byte, error) {
	from := raw
	if packed {
		z, ok := k.readers.Get().(io.ReadCloser)
		if !ok {
			z = flate.NewReader(raw)
		} else if err := z.(flate.Resetter).Reset(raw, nil); err != nil {
			return nil, err
		}
		defer k.readers.Put(z)
		from = z
	}
	var buf bytes.Buffer
	_, err := buf.ReadFrom(&bounded{from: from, left: limit, take: take})
	if err != nil || !packed {
		return buf.Bytes(), err
	}
	// The end of the stream must be read, too, or HTTP/2 resets it.
	switch n, err := raw.Read(make([]byte, 1)); {
	case n > 0:
		return nil, errors.New("unexpected bytes after the compressed data")
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	}
	return buf.Bytes(), nil
}

// bounded fails where io.LimitReader would return io.EOF.
type bounded struct {
	from io.Reader
	left int64
	take func(int64) bool
}

func (r *bounded) Read(b []byte) (int, error) {
	if int64(len(b)) > r.left+1 {
		b = b[:r.left+1]
	}
	n, err := r.from.Read(b)
	if r.left -= int64(n); r.left < 0 {
		return 0, errBody
	}
	if n > 0 && r.take != nil && !r.take(int64(n)) {
		return 0, errBusy
	}
	return n, err
}
