# Builds, installs and packs diffx: `make install PREFIX=/opt/diffx`, `make dist`. docs/install.md says what goes where.
#
# Cargo builds; the linker then makes of its static library what a system expects and cargo cannot give: a shared library
# with a SONAME and a symbol-version node (rustc hands the linker an anonymous version script of its own, beside which
# no named one may stand), and a static library in which no symbol is global but the dfx_ ones, so that a program may
# link another Rust library beside it.

PREFIX     ?= /usr/local
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DOCDIR     ?= $(PREFIX)/share/doc/diffx
DATADIR    ?= $(PREFIX)/share/diffx
DESTDIR    ?=

CARGO      ?= cargo
CC         ?= cc
STRIP      ?= strip
OBJCOPY    ?= objcopy
INSTALL    ?= install

PROFILE    ?= dist
TARGET     ?= $(or $(CARGO_TARGET_DIR),target)
# Where cargo's outputs lie. Given from outside, cargo is not called: what is there is installed.
BUILT      ?=
OUT        ?= $(TARGET)/package
DIST       ?= dist
PACKER     ?= gzip -9n

VERSION    := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
GENERATION := $(shell sed -n 's/^\#define DFX_API_MAJOR //p' include/diffx.h)
PLATFORM   := $(shell uname -m)-$(shell uname -s | tr A-Z a-z)
HEADERS    := $(filter-out %.md,$(wildcard include/*))
BINDINGS   := $(shell cd bindings && find . -type f ! -path '*/__pycache__/*' ! -path '*.egg-info/*' | sort)
PLUGINS    ?= models processes guidance samplers grids objectives
# What rustc --print native-static-libs says; tests/install holds the two together.
SYSTEM     := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

FROM       := $(or $(BUILT),$(TARGET)/$(PROFILE))
ARCHIVE    ?= $(FROM)/libdiffx.a
SHARED     := libdiffx.so.$(VERSION)
SONAME     := libdiffx.so.$(GENERATION)
PACK       := diffx-$(VERSION)-$(PLATFORM)

# How to get from one installed folder to another: what is installed may be moved.
relative    = $(shell realpath -ms --relative-to=$(1) $(2))
fill        = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@SYSTEM@|$(SYSTEM)|g' -e 's|@SHARED@|$(SHARED)|g' \
                  -e 's|@SONAME@|$(SONAME)|g' -e 's|@GENERATION@|$(GENERATION)|g' \
                  -e 's|@PREFIX_FROM_PC@|$(call relative,$(LIBDIR)/pkgconfig,$(PREFIX))|g' \
                  -e 's|@PREFIX_FROM_CMAKE@|$(call relative,$(LIBDIR)/cmake/diffx,$(PREFIX))|g' \
                  -e 's|@LIB@|$(call relative,$(PREFIX),$(LIBDIR))|g' \
                  -e 's|@INCLUDE@|$(call relative,$(PREFIX),$(INCLUDEDIR))|g' \
                  -e 's|@BIN@|$(call relative,$(PREFIX),$(BINDIR))|g'

.PHONY: all cargo install uninstall dist clean
.DELETE_ON_ERROR:

all: $(OUT)/$(SHARED) $(OUT)/libdiffx.a

# ---- cargo

ifeq ($(BUILT),)
cargo:
	$(CARGO) build --profile $(PROFILE) --package diffx
	for p in $(PLUGINS); do \
	    $(CARGO) rustc --profile $(PROFILE) --package diffx-$$p --lib --features export --crate-type cdylib || exit 1; \
	done
$(ARCHIVE): cargo
endif

# ---- the linker

$(OUT):
	mkdir -p $@

# The node DIFFX_0 holds the functions of ABI generation 0. A later generation adds a node and leaves this one.
$(OUT)/$(SHARED): $(ARCHIVE) packaging/libdiffx.map | $(OUT)
	$(CC) -shared -o $@ -Wl,--whole-archive $< -Wl,--no-whole-archive -Wl,--gc-sections \
	    -Wl,--version-script=packaging/libdiffx.map -Wl,-soname,$(SONAME) \
	    -Wl,-z,nodelete,-z,defs,-z,relro,-z,now -Wl,--as-needed $(SYSTEM)
	$(STRIP) --strip-all $@

# One object of all; DW.ref is the compiler's way to the unwinder, shared by every library of a program.
$(OUT)/libdiffx.a: $(ARCHIVE) | $(OUT)
	$(CC) -nostdlib -r -o $(OUT)/diffx.o -Wl,--whole-archive $<
	$(OBJCOPY) --wildcard --keep-global-symbol='dfx_*' --keep-global-symbol='DW.ref.*' --strip-debug \
	    --remove-section=.llvmbc --remove-section=.llvmcmd $(OUT)/diffx.o
	rm -f $@
	$(AR) rcs $@ $(OUT)/diffx.o
	rm $(OUT)/diffx.o

# ---- the tree

install: all
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(DOCDIR) $(DESTDIR)$(LIBDIR)/pkgconfig \
	    $(DESTDIR)$(LIBDIR)/cmake/diffx $(DESTDIR)$(LIBDIR)/diffx/plugins
	$(INSTALL) -m 755 $(FROM)/diffx $(DESTDIR)$(BINDIR)/diffx
	$(STRIP) --strip-all $(DESTDIR)$(BINDIR)/diffx
	$(INSTALL) -m 755 $(OUT)/$(SHARED) $(DESTDIR)$(LIBDIR)/$(SHARED)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libdiffx.so
	$(INSTALL) -m 644 $(OUT)/libdiffx.a $(DESTDIR)$(LIBDIR)/libdiffx.a
	for p in $(PLUGINS); do \
	    to=$(DESTDIR)$(LIBDIR)/diffx/plugins/$$p.so; \
	    $(INSTALL) -m 755 $(FROM)/libdiffx_$$p.so $$to && $(STRIP) --strip-all $$to || exit 1; \
	done
	$(INSTALL) -m 644 $(HEADERS) $(DESTDIR)$(INCLUDEDIR)
	$(fill) packaging/diffx.pc.in >$(DESTDIR)$(LIBDIR)/pkgconfig/diffx.pc
	$(fill) packaging/diffxConfig.cmake.in >$(DESTDIR)$(LIBDIR)/cmake/diffx/diffxConfig.cmake
	$(fill) packaging/diffxConfigVersion.cmake.in >$(DESTDIR)$(LIBDIR)/cmake/diffx/diffxConfigVersion.cmake
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/diffx.pc $(DESTDIR)$(LIBDIR)/cmake/diffx/*.cmake
	$(INSTALL) -m 644 LICENSE-MIT LICENSE-APACHE README.md docs/install.md docs/hosts.md docs/plugins.md docs/json.md \
	    $(DESTDIR)$(DOCDIR)
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)/examples
	$(INSTALL) -m 644 $(wildcard examples/hello/*) plugins/examples/c_minimal/ve_example.c \
	    $(wildcard plugins/examples/cpp_minimal/*.cpp) $(DESTDIR)$(DOCDIR)/examples

	for f in $(BINDINGS); do $(INSTALL) -D -m 644 bindings/$$f $(DESTDIR)$(DATADIR)/$$f || exit 1; done

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/diffx $(DESTDIR)$(LIBDIR)/libdiffx.a $(DESTDIR)$(LIBDIR)/libdiffx.so \
	    $(DESTDIR)$(LIBDIR)/$(SONAME) $(DESTDIR)$(LIBDIR)/$(SHARED) $(DESTDIR)$(LIBDIR)/pkgconfig/diffx.pc \
	    $(patsubst include/%,$(DESTDIR)$(INCLUDEDIR)/%,$(HEADERS))
	rm -rf $(DESTDIR)$(LIBDIR)/cmake/diffx $(DESTDIR)$(LIBDIR)/diffx $(DESTDIR)$(DOCDIR) $(DESTDIR)$(DATADIR)

# ---- the release: a tree with an empty prefix, to be unpacked anywhere. The same files give the same bytes. They are of the
# time of the commit, not of the epoch: Julia goes by a file's time, and would run what it compiled of an older release.

EPOCH       = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)

dist: all
	rm -rf $(DIST)/$(PACK)
	$(MAKE) --no-print-directory install PREFIX=/ BINDIR=/bin LIBDIR=/lib INCLUDEDIR=/include DOCDIR=/share/doc/diffx \
	    DATADIR=/share/diffx DESTDIR=$(abspath $(DIST))/$(PACK) >/dev/null
	tar -C $(DIST) --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$(EPOCH) \
	    --mode=go=rX,u+rw -cf - $(PACK) | $(PACKER) >$(DIST)/$(PACK).tar.gz
	cd $(DIST) && sha256sum $(PACK).tar.gz >$(PACK).tar.gz.sha256
	@cd $(DIST)/$(PACK) && for f in lib/$(SHARED) lib/libdiffx.a bin/diffx lib/diffx/plugins/*.so; do \
	    printf '%10d  %s\n' "$$(stat -c %s $$f)" "$$f"; done
	@printf '%10d  %s\n' "$$(stat -c %s $(DIST)/$(PACK).tar.gz)" "$(DIST)/$(PACK).tar.gz"

clean:
	rm -rf $(OUT) $(DIST)/diffx-*
