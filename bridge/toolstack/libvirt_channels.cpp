#include "bridge/toolstack/libvirt_channels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <pugixml.hpp>
#include <sstream>

namespace xenlane::bridge {
namespace {

/// All of an element's own text; comments may stand between its parts.
std::string text_of(pugi::xml_node element) {
  std::string text;
  for (const pugi::xml_node part : element.children()) {
    if (part.type() == pugi::node_pcdata || part.type() == pugi::node_cdata) text += part.value();
  }
  return text;
}

class Reader {
 public:
  Reader(std::string_view text, Findings& findings) : text_(text), findings_(findings) {}

  std::optional<GuestChannels> run() {
    pugi::xml_document document;
    const auto parsed =
        document.load_buffer(text_.data(), text_.size(),
                             pugi::parse_default | pugi::parse_ws_pcdata, pugi::encoding_utf8);
    if (!parsed) {
      const auto at =
          std::clamp<std::ptrdiff_t>(parsed.offset, 0, static_cast<std::ptrdiff_t>(text_.size()));
      findings_.error(place_of(text_, static_cast<std::size_t>(at)),
                      fmt::format("this is no well-formed XML: {}", parsed.description()));
      return std::nullopt;
    }
    const pugi::xml_node root = document.document_element();
    if (root.name() != std::string_view("domain")) {
      findings_.error(place(root), fmt::format("<{}> instead of libvirt's <domain>",
                                               escape_untrusted(root.name())));
      return std::nullopt;
    }
    const auto is_element = [](pugi::xml_node node) { return node.type() == pugi::node_element; };
    if (std::count_if(document.begin(), document.end(), is_element) > 1) {
      findings_.error(place(root), "there is more than one element at the top; give one <domain>");
    }
    const pugi::xml_node name = root.child("name");
    if (!name) findings_.error(place(root), "the <domain> has no <name>");
    if (name) draft_.set_guest(place(name), text_of(name));
    for (const pugi::xml_node devices : root.children("devices")) {
      for (const pugi::xml_node channel : devices.children("channel")) read_channel(channel);
    }
    return draft_.finish();
  }

 private:
  Place place(pugi::xml_node node) const {
    // The offset is that of the name, behind the '<'.
    const auto offset = std::max<std::ptrdiff_t>(node.offset_debug(), 1);
    return place_of(text_, static_cast<std::size_t>(offset) - 1);
  }

  void leave_out(pugi::xml_node node, std::string_view why) {
    findings_.warning(place(node), fmt::format("left out: {}", why));
  }

  void read_channel(pugi::xml_node channel) {
    const pugi::xml_node source = channel.child("source");
    const pugi::xml_node target = channel.child("target");
    if (!target) return findings_.error(place(channel), "the <channel> has no <target>");
    const std::string_view kind = target.attribute("type").value();
    if (kind != "xen" && kind != "virtio") {
      return leave_out(target, fmt::format("a target of type '{}' is neither 'xen' nor 'virtio'",
                                           escape_untrusted(kind)));
    }
    const std::string_view name = target.attribute("name").value();
    if (name.empty()) return leave_out(target, "the channel has no name");
    const std::string shown = escape_untrusted(name);
    const std::string_view type = channel.attribute("type").value();
    if (type != "unix") {
      return leave_out(channel, fmt::format("'{}' is of type '{}' and has no Unix socket", shown,
                                            escape_untrusted(type)));
    }
    const std::string_view path = source.attribute("path").value();
    if (path.empty()) {
      return leave_out(channel,
                       fmt::format("libvirt chooses the path of '{}' when the domain starts; take "
                                   "what 'virsh dumpxml' prints while it runs",
                                   shown));
    }
    // Without a mode libvirt connects.
    if (source.attribute("mode").value() != std::string_view("bind")) {
      return leave_out(source, fmt::format("QEMU connects to the socket of '{}'; only one with "
                                           "mode='bind' can be connected to",
                                           shown));
    }
    draft_.add({place(target), name}, {place(source), path});
  }

  std::string_view text_;
  Findings& findings_;
  ChannelsDraft draft_{findings_};
};

}  // namespace

ChannelsRead read_libvirt_channels(std::string_view untrusted) {
  ChannelsRead read;
  if (const auto nul = untrusted.find('\0'); nul != std::string_view::npos) {
    read.findings.error(place_of(untrusted, nul), "a NUL byte; this is no text");
    return read;
  }
  read.guest = Reader(untrusted, read.findings).run();
  return read;
}

std::string write_libvirt_channels(const GuestChannels& guest) {
  pugi::xml_document document;
  pugi::xml_node domain = document.append_child("domain");
  domain.append_attribute("type") = "xen";
  domain.append_child("name").text() = guest.guest.text().c_str();
  pugi::xml_node devices = domain.append_child("devices");
  for (const PvChannel& from : guest.channels) {
    pugi::xml_node channel = devices.append_child("channel");
    channel.append_attribute("type") = "unix";
    pugi::xml_node source = channel.append_child("source");
    source.append_attribute("mode") = "bind";
    source.append_attribute("path") = from.path.text().c_str();
    pugi::xml_node target = channel.append_child("target");
    target.append_attribute("type") = "xen";
    target.append_attribute("name") = from.name.text().c_str();
  }
  std::ostringstream out;
  document.save(out, "  ", pugi::format_indent | pugi::format_no_declaration, pugi::encoding_utf8);
  return out.str();
}

}  // namespace xenlane::bridge
