//! `Catalog`

use super::*;
use crate::rpc::endpoint::sort::by_distance;

/// Length of a UUID as text, and where its hyphens are.
const UUID_LEN: usize = 36;
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

pub(super) async fn register(call: Call<'_>) -> Answer {
    let prepare = |args: &RegisterRequest| {
        let request = checked(args.clone(), &call.shared.config.datacenter)?;
        call.require(&args.token, Access::Write, Resource::Node(&args.node))?;
        if let Some(service) = &request.service {
            call.require(&args.token, Access::Write, Resource::Service(&service.service))?;
        }
        Ok(Command::Register(Box::new(request)))
    };
    call.write(prepare, |_| Empty {}).await
}

/// Checks a registration and fills in what it leaves to the server. What the store could not file under a key is
/// refused here, before the log.
pub(crate) fn checked(mut request: RegisterRequest, datacenter: &str) -> Result<RegisterRequest, CallError> {
    let refuse = |text: &str| Err(CallError::refused(text));
    if request.node.is_empty() {
        return refuse("Must provide node");
    }
    if request.address.is_empty() && !request.skip_node_update {
        return refuse("Must provide address if SkipNodeUpdate is not set");
    }
    if !request.id.is_empty() {
        check_uuid(&request.id).map_err(|what| CallError::refused(format!("Bad node ID: {what}")))?;
    }
    if request.datacenter.is_empty() {
        request.datacenter = datacenter.into();
    }
    if let Some(service) = &mut request.service {
        if service.id.is_empty() {
            service.id.clone_from(&service.service);
        }
        if service.service.is_empty() {
            return refuse("Must provide service name with ID");
        }
        if ["0.0.0.0", "::", "[::]"].contains(&service.address.as_str()) {
            return refuse("Invalid service address");
        }
    }
    for check in request.check.iter_mut().chain(request.checks.iter_mut().flatten()) {
        if check.check_id.is_empty() {
            check.check_id.clone_from(&check.name);
        }
        if check.check_id.is_empty() {
            return refuse("Must provide a check ID or name");
        }
        if check.node.is_empty() {
            check.node.clone_from(&request.node);
        }
    }
    Ok(request)
}

fn check_uuid(text: &str) -> Result<(), &'static str> {
    if text.len() != UUID_LEN {
        return Err("uuid string is wrong length");
    }
    let good = text
        .bytes()
        .enumerate()
        .all(|(at, byte)| if UUID_HYPHENS.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() });
    if good { Ok(()) } else { Err("uuid is improperly formatted") }
}

pub(super) async fn deregister(call: Call<'_>) -> Answer {
    let prepare = |args: &DeregisterRequest| {
        if args.node.is_empty() {
            return Err(CallError::refused("Must provide node"));
        }
        call.require(&args.token, Access::Write, Resource::Node(&args.node))?;
        Ok(Command::Deregister(args.clone()))
    };
    call.write(prepare, |_| Empty {}).await
}

/// All that the WAN pool knows, the nearest first.
pub(super) fn list_datacenters(call: Call<'_>) -> Answer {
    call.done(&call.shared.config.router.datacenters())
}

pub(super) async fn list_nodes(call: Call<'_>) -> Answer {
    let interests = |_: &DcRequest| vec![topic(Topic::Nodes)];
    call.read(interests, |look, args| {
        let mut nodes: Vec<Node> = readable_nodes(look, args).map(|entry| (*entry.node).clone()).collect();
        by_distance(look, &args.source, &mut nodes, |node| &node.node);
        Ok((look.state.nodes_index(), NodesReply { nodes: Some(nodes), ..<_>::default() }))
    })
    .await
}

pub(super) fn readable_nodes<'a>(look: &'a Look<'_>, args: &'a DcRequest) -> impl Iterator<Item = &'a NodeEntry> {
    look.state.nodes().filter(|entry| {
        has_meta(entry.node.meta.as_ref(), args.node_meta_filters.as_ref())
            && look.may_read(Resource::Node(&entry.node.node))
    })
}

pub(super) async fn list_services(call: Call<'_>) -> Answer {
    let interests = |args: &DcRequest| {
        let nodes = args.node_meta_filters.is_some().then_some(topic(Topic::Nodes));
        [topic(Topic::Services)].into_iter().chain(nodes).collect()
    };
    call.read(interests, |look, args| {
        let filters = args.node_meta_filters.as_ref();
        let mut services = look.state.services(|entry| has_meta(entry.node.meta.as_ref(), filters));
        services.retain(|name, _| look.may_read(Resource::Service(name)));
        let index = if filters.is_some() { look.state.node_services_index() } else { look.state.services_index() };
        Ok((index, ServicesReply { services: Some(services), ..<_>::default() }))
    })
    .await
}

pub(super) async fn service_list(call: Call<'_>) -> Answer {
    let interests = |_: &DcRequest| vec![topic(Topic::Services)];
    call.read(interests, |look, _| {
        let names = look.state.services(|_| true).into_keys();
        let readable = names.filter(|name| look.may_read(Resource::Service(name)));
        let services = readable.map(|name| ServiceName { name }).collect();
        Ok((look.state.services_index(), ServiceListReply { services: Some(services), ..<_>::default() }))
    })
    .await
}

pub(super) async fn service_nodes(call: Call<'_>) -> Answer {
    call.read(service_interests, |look, args: &ServiceRequest| {
        if args.service_name.is_empty() && args.service_address.is_empty() {
            return Err(CallError::refused("Must provide service name"));
        }
        let (index, instances) = matching_instances(look, args);
        let mut nodes: Vec<ServiceNode> =
            instances.into_iter().map(|(node, service)| node.service_node(service)).collect();
        by_distance(look, &args.source, &mut nodes, |node| &node.node);
        Ok((index, ServiceNodesReply { service_nodes: Some(nodes), ..<_>::default() }))
    })
    .await
}

/// What can change the instances of a service.
pub(super) fn service_interests(args: &ServiceRequest) -> Vec<Interest> {
    if args.connect {
        return [Topic::Services, Topic::Nodes, Topic::Checks].map(topic).into();
    }
    vec![service_topic(&args.service_name)]
}

/// The instances a request asks for, and their index.
pub(super) fn matching_instances<'a>(
    look: &'a Look<'_>,
    args: &ServiceRequest,
) -> (u64, Vec<(&'a NodeEntry, &'a Arc<NodeService>)>) {
    let wanted = |(node, service): &(&NodeEntry, &Arc<NodeService>)| {
        has_meta(node.node.meta.as_ref(), args.node_meta_filters.as_ref())
            && has_tags(service, args)
            && (args.service_address.is_empty() || args.service_address == service.address)
            && look.may_read_instance(node, service)
    };
    if args.connect {
        let all = look.state.nodes().flat_map(|node| node.services.values().map(move |service| (node, service)));
        let mesh = all.filter(|(_, service)| {
            let stands_for = &service.proxy.destination_service_name;
            (service.kind == "connect-proxy" && stands_for.eq_ignore_ascii_case(&args.service_name))
                || (service.connect.native && service.service.eq_ignore_ascii_case(&args.service_name))
        });
        return (look.state.catalog_index(), mesh.filter(wanted).collect());
    }
    let (index, instances) = look.state.instances(&args.service_name);
    (index, instances.filter(wanted).collect())
}

fn has_tags(service: &NodeService, args: &ServiceRequest) -> bool {
    if !args.tag_filter {
        return true;
    }
    let has = |tag: &str| service.tags.iter().flatten().any(|own| own.eq_ignore_ascii_case(tag));
    match &args.service_tags {
        Some(tags) if !tags.is_empty() => tags.iter().all(|tag| has(tag)),
        // Agents before 1.3 send one tag only.
        _ => args.service_tag.is_empty() || has(&args.service_tag),
    }
}

fn node_interests(args: &NodeRequest) -> Vec<Interest> {
    // By a piece of its id a node can appear under any name.
    vec![node_topic(&args.node), topic(Topic::Nodes)]
}

pub(super) async fn node_services(call: Call<'_>) -> Answer {
    call.read(node_interests, |look, args: &NodeRequest| {
        let found = find_node(look, args)?;
        let node_services = found.map(|entry| NodeServices {
            node: Some((*entry.node).clone()),
            services: Some(readable_services(look, entry).map(|s| (s.id.clone(), (**s).clone())).collect()),
        });
        Ok((look.state.node_services_index(), NodeServicesReply { node_services, ..<_>::default() }))
    })
    .await
}

pub(super) async fn node_service_list(call: Call<'_>) -> Answer {
    call.read(node_interests, |look, args: &NodeRequest| {
        let found = find_node(look, args)?;
        let node_services = found.map_or_else(NodeServiceList::default, |entry| NodeServiceList {
            node: Some((*entry.node).clone()),
            services: Some(readable_services(look, entry).map(|service| (**service).clone()).collect()),
        });
        Ok((look.state.node_services_index(), NodeServiceListReply { node_services, ..<_>::default() }))
    })
    .await
}

fn find_node<'a>(look: &'a Look<'_>, args: &NodeRequest) -> Result<Option<&'a NodeEntry>, CallError> {
    if args.node.is_empty() {
        return Err(CallError::refused("Must provide node"));
    }
    Ok(look.state.node_by_name_or_id(&args.node).filter(|entry| look.may_read(Resource::Node(&entry.node.node))))
}

fn readable_services<'a>(look: &'a Look<'_>, entry: &'a NodeEntry) -> impl Iterator<Item = &'a Arc<NodeService>> {
    entry.services.values().filter(|service| look.may_read(Resource::Service(&service.service)))
}
