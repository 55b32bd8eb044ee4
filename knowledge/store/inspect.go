package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt maps its file and follows the page numbers in it; a damaged one makes it
// panic or fault in goroutines of its own, where it cannot be recovered. So before
// bbolt opens the file, everything reachable in it is checked here with plain reads.
// Layout: bbolt's internal/common, unchanged since boltdb 1.0.

var errNotFile = errors.New("not a regular file")

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	elementSize  = 16
	bucketHeader = 16 // root page 8, sequence 8
	noFreelist   = ^uint64(0)
	isBucket     = 1 // flag of a leaf's element

	minPage, maxPage = 1 << 10, 1 << 16
)

// found is what inspect learned of a file that is sound.
type found struct {
	empty   bool
	oneMeta bool // one of the two meta pages cannot be read
}

// meta is a meta page of bbolt.
type meta struct {
	pageSize             int64
	root, freelist, high uint64
	txid                 uint64
}

// inspect checks the structure of a bbolt file. errDamaged: it must not be opened.
func inspect(f *os.File) (found, error) {
	fi, err := f.Stat()
	if err != nil {
		return found{}, err
	}
	if !fi.Mode().IsRegular() {
		return found{}, errNotFile
	}
	return inspectPages(f, fi.Size())
}

func inspectPages(f io.ReaderAt, size int64) (found, error) {
	if size == 0 {
		return found{empty: true}, nil
	}
	m, both, err := readMetas(f, size)
	if err != nil {
		return found{}, err
	}
	if m.high < 2 || m.high > uint64(size/m.pageSize) {
		return found{}, fmt.Errorf("%w: truncated: %d of %d pages are there", errDamaged, size/m.pageSize, m.high)
	}
	w := &walk{f: f, meta: m, seen: make([]bool, m.high)}
	w.seen[0], w.seen[1] = true, true
	w.push(m.root, nil, nil)
	for len(w.todo) > 0 {
		next := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := w.page(next); err != nil {
			return found{}, err
		}
	}
	if m.freelist != noFreelist {
		if err := w.freelist(); err != nil {
			return found{}, err
		}
	}
	return found{oneMeta: !both}, nil
}

// readMetas finds the newest meta page that is sound, and whether both are.
func readMetas(f io.ReaderAt, size int64) (newest meta, both bool, err error) {
	n := 0
	for step := int64(minPage); step <= maxPage && n == 0; step *= 2 {
		for _, at := range []int64{0, step} {
			m, ok := readMeta(f, at, size)
			if !ok || m.pageSize != step {
				continue
			}
			if n++; n == 1 || m.txid > newest.txid {
				newest = m
			}
		}
	}
	if n == 0 {
		return meta{}, false, fmt.Errorf("%w: not a knowledge file: no meta page can be read", errDamaged)
	}
	return newest, n == 2, nil
}

func readMeta(f io.ReaderAt, at, size int64) (meta, bool) {
	b := make([]byte, pageHeader+64)
	if at+int64(len(b)) > size {
		return meta{}, false
	}
	if _, err := f.ReadAt(b, at); err != nil {
		return meta{}, false
	}
	ne := binary.NativeEndian // bbolt writes its structs as they lie in memory
	b = b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56]) // a hash takes all
	m := meta{
		pageSize: int64(ne.Uint32(b[8:])), root: ne.Uint64(b[16:]), freelist: ne.Uint64(b[32:]),
		high: ne.Uint64(b[40:]), txid: ne.Uint64(b[48:]),
	}
	ok := ne.Uint32(b) == boltMagic && ne.Uint32(b[4:]) == boltVersion && ne.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= minPage && m.pageSize <= maxPage && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// walk visits every page that can be reached, each once.
type walk struct {
	f    io.ReaderAt
	meta meta
	seen []bool
	todo []visit
	buf  []byte
}

// visit is a page to go to, and the bounds of its keys: low or above, below high.
// nil: no bound.
type visit struct {
	id        uint64
	low, high []byte
}

func (w *walk) push(id uint64, low, high []byte) {
	w.todo = append(w.todo, visit{id, bytes.Clone(low), bytes.Clone(high)})
}

// keys checks that the keys of count elements are within the page, ascend, and keep
// the visit's bounds; at is the offset of position and key size in an element.
func (v visit) keys(page []byte, count uint16, at int) ([][]byte, error) {
	if pageHeader+int(count)*elementSize > len(page) {
		return nil, damaged(v.id, "has a wrong count")
	}
	ne := binary.NativeEndian
	keys := make([][]byte, count)
	for i := range keys {
		e := pageHeader + i*elementSize
		from := uint64(e) + uint64(ne.Uint32(page[e+at:]))
		to := from + uint64(ne.Uint32(page[e+at+4:]))
		if to > uint64(len(page)) || from == to {
			return nil, damaged(v.id, "has a key that does not fit")
		}
		if keys[i] = page[from:to]; i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0 {
			return nil, damaged(v.id, "has keys out of order")
		}
	}
	if count > 0 && (bytes.Compare(keys[0], v.low) < 0 || (v.high != nil && bytes.Compare(keys[count-1], v.high) >= 0)) {
		return nil, damaged(v.id, "has keys of another page")
	}
	return keys, nil
}

func damaged(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", errDamaged, id, what)
}

// read brings a page with its overflow into w.buf and marks it as seen.
func (w *walk) read(id uint64) (flags, count uint16, err error) {
	if id < 2 || id >= w.meta.high {
		return 0, 0, damaged(id, "lies outside")
	}
	if len(w.buf) < pageHeader {
		w.buf = make([]byte, w.meta.pageSize)
	}
	ps := w.meta.pageSize
	if _, err := w.f.ReadAt(w.buf[:pageHeader], int64(id)*ps); err != nil {
		return 0, 0, damaged(id, err.Error())
	}
	ne := binary.NativeEndian
	more := uint64(ne.Uint32(w.buf[12:]))
	if ne.Uint64(w.buf) != id || more >= w.meta.high-id {
		return 0, 0, damaged(id, "has a wrong header")
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return 0, 0, damaged(i, "is used twice")
		}
		w.seen[i] = true
	}
	n := int64(more+1) * ps
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.buf = w.buf[:n]
	if _, err := w.f.ReadAt(w.buf, int64(id)*ps); err != nil {
		return 0, 0, damaged(id, err.Error())
	}
	return ne.Uint16(w.buf[8:]), ne.Uint16(w.buf[10:]), nil
}

func (w *walk) page(v visit) error {
	flags, count, err := w.read(v.id)
	if err != nil {
		return err
	}
	switch flags {
	case flagLeaf:
		return w.leaf(v, w.buf, count)
	case flagBranch:
		return w.branch(v, count)
	}
	return damaged(v.id, "is of no known kind")
}

func (w *walk) branch(v visit, count uint16) error {
	keys, err := v.keys(w.buf, count, 0)
	if err != nil {
		return err
	}
	if count == 0 {
		return damaged(v.id, "has a wrong count")
	}
	for i, k := range keys {
		high := v.high
		if i+1 < len(keys) {
			high = keys[i+1]
		}
		w.push(binary.NativeEndian.Uint64(w.buf[pageHeader+i*elementSize+8:]), k, high)
	}
	return nil
}

// leaf checks a page of values, or a small bucket inside a value.
func (w *walk) leaf(v visit, page []byte, count uint16) error {
	keys, err := v.keys(page, count, 4)
	if err != nil {
		return err
	}
	ne := binary.NativeEndian
	for i, k := range keys {
		e := pageHeader + i*elementSize
		from := uint64(e) + uint64(ne.Uint32(page[e+4:])) + uint64(len(k))
		to := from + uint64(ne.Uint32(page[e+12:]))
		if to > uint64(len(page)) {
			return damaged(v.id, "has a value that does not fit")
		}
		if ne.Uint32(page[e:])&isBucket != 0 {
			if err := w.bucket(v.id, page[from:to]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks the value of a bucket: a root page, or with root 0 the bucket's only
// page in the value itself.
func (w *walk) bucket(id uint64, value []byte) error {
	if len(value) < bucketHeader {
		return damaged(id, "has a bucket cut short")
	}
	ne := binary.NativeEndian
	if root := ne.Uint64(value); root != 0 {
		w.push(root, nil, nil)
		return nil
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || ne.Uint16(inline[8:]) != flagLeaf {
		return damaged(id, "has a bucket cut short")
	}
	return w.leaf(visit{id: id}, inline, ne.Uint16(inline[10:]))
}

// freelist checks the list of free pages that other writers leave in a file; this
// package writes none.
func (w *walk) freelist() error {
	flags, count, err := w.read(w.meta.freelist)
	if err != nil {
		return err
	}
	if flags != flagFreelist || count == 0xFFFF || pageHeader+int(count)*8 > len(w.buf) {
		return damaged(w.meta.freelist, "is no list of free pages")
	}
	for i := range int(count) {
		id := binary.NativeEndian.Uint64(w.buf[pageHeader+i*8:])
		if id < 2 || id >= w.meta.high || w.seen[id] {
			return damaged(id, "is free and in use")
		}
		w.seen[id] = true
	}
	return nil
}
