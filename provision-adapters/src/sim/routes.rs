//! The routes of a provider that change something: a list, so that tests can say that none was left
//! out, and the front's rule, so that the list is whole.

use super::message::SimRequest;

/// Stands for every route: the list of a provider that has none.
pub(super) const ALL: &[&str] = &["* /**"];

/// Whether a request may change something.
pub(super) fn may_change(request: &SimRequest) -> bool {
    !matches!(&*request.method, "GET" | "HEAD" | "OPTIONS")
}

/// The route that a request takes, of a list of methods and paths: `*` is any one segment, or any
/// method, and `**` any number of segments, at the end.
pub(super) fn route_of(routes: &[&'static str], request: &SimRequest) -> Option<&'static str> {
    routes.iter().copied().find(|route| {
        let Some((method, path)) = route.split_once(" /") else { return false };
        let segments: Vec<&str> = path.split('/').collect();
        (method == "*" || method == request.method) && fits(&segments, &request.path)
    })
}

fn fits(route: &[&str], path: &[String]) -> bool {
    match (route, path) {
        (["**"], _) | ([], []) => true,
        ([one, route @ ..], [segment, path @ ..]) => {
            (*one == "*" || one == segment) && fits(route, path)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, SimRequest, route_of};

    #[test]
    fn the_first_route_that_fits_is_taken() {
        let routes = ["POST /a/*", "* /a/b", "DELETE /c/**"];
        let of = |routes: &[&'static str], method: &str, path: &str| {
            let path = path.split('/').map(ToOwned::to_owned).collect();
            let request = SimRequest { method: method.to_owned(), path, ..SimRequest::default() };
            route_of(routes, &request)
        };
        assert_eq!(of(&routes, "POST", "a/b"), Some("POST /a/*"));
        assert_eq!(of(&routes, "PUT", "a/b"), Some("* /a/b"));
        assert_eq!(of(&routes, "PUT", "a/c"), None);
        assert_eq!(of(&routes, "POST", "a"), None);
        assert_eq!(of(&routes, "POST", "a/b/c"), None);
        assert_eq!(of(&routes, "DELETE", "c/d/e"), Some("DELETE /c/**"));
        assert_eq!(of(ALL, "PATCH", "x/y"), Some("* /**"));
    }
}
