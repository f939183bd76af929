//! Repositories and their owners.

use provision_core::{StepContext, StepError};

use super::{GitHub, has_next, split};
use crate::{
    github::{
        config::Account,
        model::{Generate, Login, RepoBody, Topics},
    },
    http::{Request, Response},
};

/// What a look at a repository's name shows.
#[derive(Debug, Clone)]
pub(crate) enum Look {
    /// GitHub's own 404: not there, or not visible; see [`GitHub::sees_all_of`].
    Absent,
    /// There under this very name.
    Here(RepoBody),
    /// The name redirects to a repository that was renamed or moved away, by its id if it says.
    Moved(Option<u64>),
}

impl GitHub {
    /// Looks at the account, which proves that the token is valid and sees it; answers the
    /// token's scopes, which classic tokens alone have.
    ///
    /// GET `/orgs/{org}` (orgs#get-an-organization), GET `/user` (users#get-the-authenticated-user).
    pub(crate) async fn owner(&self, cx: &StepContext) -> Result<Option<String>, StepError> {
        let response = match &self.account {
            Account::Organization(login) => {
                let request = Request::get(&["orgs", login]);
                self.call(cx, self.read("look at the organization"), request, &[200]).await
            }
            Account::User(_) => {
                let request = Request::get(&["user"]);
                self.call(cx, self.read("look at the user"), request, &[200]).await
            }
        };
        let response = response.map_err(|error| match error.code() {
            "not_found" => error.with_code("owner_invisible").with_hint("check account and token"),
            _ => error,
        })?;
        let seen: Login = response.json("look at the owner")?;
        if !seen.login.eq_ignore_ascii_case(self.login()) {
            return Err(StepError::permanent("look at the owner")
                .with_code("owner_differs")
                .with_hint("the token belongs to another account than the one configured"));
        }
        Ok(response.headers.get("x-oauth-scopes").map(ToOwned::to_owned))
    }

    /// Looks at a repository by its name. GET `/repos/{owner}/{repo}` (repos#get-a-repository).
    pub(crate) async fn repo(
        &self,
        cx: &StepContext,
        owner: &str,
        name: &str,
    ) -> Result<Look, StepError> {
        const OPERATION: &str = "look at the repository";
        let request = Request::get(&["repos", owner, name]);
        let response = self.call(cx, self.read(OPERATION), request, &[200, 301, 404]).await?;
        Ok(match response.status {
            404 => Look::Absent,
            // X2: not followed. Where it leads is read, and asked for as a call of its own.
            301 => Look::Moved(moved_to(&response)),
            _ => Look::Here(response.json(OPERATION)?),
        })
    }

    /// Looks at a repository by its id, which survives renames. GET `/repositories/{id}`: where
    /// the redirects of renamed repositories lead (using-the-rest-api/best-practices, "Follow
    /// redirects"); not part of the OpenAPI document.
    pub(crate) async fn repo_by_id(
        &self,
        cx: &StepContext,
        id: &str,
    ) -> Result<Option<RepoBody>, StepError> {
        const OPERATION: &str = "look at the repository by id";
        let request = Request::get(&["repositories", id]);
        let response = self.call(cx, self.read(OPERATION), request, &[200, 404]).await?;
        if response.status == 404 {
            return Ok(None);
        }
        response.json(OPERATION).map(Some)
    }

    /// Generates a repository. POST `/repos/{template_owner}/{template_repo}/generate`
    /// (repos#create-a-repository-using-a-template).
    ///
    /// Identity: the name, unique per owner in any case. Time-out 30 s, late window
    /// [`crate::github::LATE_WINDOW`], lag of the look-up [`crate::github::LISTING_LAG`]; a taken
    /// name is 422. Undo: [`GitHub::delete_repo`].
    pub(crate) async fn generate(
        &self,
        cx: &StepContext,
        template: &str,
        body: &Generate<'_>,
    ) -> Result<RepoBody, StepError> {
        const OPERATION: &str = "generate the repository";
        let (owner, name) = split(template);
        let request = Request::post(&["repos", owner, name, "generate"]).json(body);
        let call = self.mutate(OPERATION).with_limit(self.creates.clone());
        self.call(cx, call, request, &[201]).await?.json(OPERATION)
    }

    /// Whether a first commit is there. GET `/repos/{owner}/{repo}/commits`
    /// (commits/commits#list-commits): 409 says that the repository is empty.
    pub(crate) async fn has_commit(
        &self,
        cx: &StepContext,
        full_name: &str,
    ) -> Result<bool, StepError> {
        let (owner, name) = split(full_name);
        let request = Request::get(&["repos", owner, name, "commits"]).query("per_page", "1");
        let call = self.read("look for the first commit");
        let response = self.call(cx, call, request, &[200, 404, 409]).await?;
        Ok(response.status == 200)
    }

    /// Whether a file is there. GET `/repos/{owner}/{repo}/contents/{path}`
    /// (repos/contents#get-repository-content).
    pub(crate) async fn has_file(
        &self,
        cx: &StepContext,
        full_name: &str,
        path: &str,
    ) -> Result<bool, StepError> {
        let (owner, name) = split(full_name);
        let mut segments = vec!["repos", owner, name, "contents"];
        segments.extend(path.split('/'));
        let call = self.read("look for the template's file");
        let response = self.call(cx, call, Request::get(&segments), &[200, 404]).await?;
        Ok(response.status == 200)
    }

    /// Replaces the topics. PUT `/repos/{owner}/{repo}/topics` (repos#replace-all-repository-topics).
    ///
    /// Identity: the repository; repeatable, since it replaces. Time-out 30 s. Undo: none needed,
    /// topics go with their repository.
    pub(crate) async fn set_topics(
        &self,
        cx: &StepContext,
        full_name: &str,
        names: Vec<String>,
    ) -> Result<(), StepError> {
        const OPERATION: &str = "set the topics";
        let (owner, name) = split(full_name);
        let request = Request::put(&["repos", owner, name, "topics"]).json(&Topics { names });
        let response = self.call(cx, self.mutate(OPERATION), request, &[200]).await?;
        response.json::<Topics>(OPERATION).map(drop)
    }

    /// Deletes a repository; whether it was there to be seen. DELETE `/repos/{owner}/{repo}`
    /// (repos#delete-a-repository). Repeatable; the name is free afterwards.
    pub(crate) async fn delete_repo(
        &self,
        cx: &StepContext,
        full_name: &str,
    ) -> Result<bool, StepError> {
        let (owner, name) = split(full_name);
        let request = Request::delete(&["repos", owner, name]);
        let call = self.mutate("delete the repository");
        let response = self.call(cx, call, request, &[204, 404]).await?;
        Ok(response.status == 204)
    }

    /// One page of the account's repositories, oldest first, and whether another follows.
    /// GET `/orgs/{org}/repos` (repos#list-organization-repositories), GET `/user/repos`
    /// (repos#list-repositories-for-the-authenticated-user).
    pub(crate) async fn repos_page(
        &self,
        cx: &StepContext,
        page: u32,
    ) -> Result<(Vec<RepoBody>, bool), StepError> {
        const OPERATION: &str = "list the repositories";
        let request = match &self.account {
            Account::Organization(login) => Request::get(&["orgs", login, "repos"]),
            Account::User(_) => Request::get(&["user", "repos"]).query("affiliation", "owner"),
        };
        let request = request
            .query("sort", "created")
            .query("direction", "asc")
            .query("per_page", "100")
            .query("page", page.to_string());
        let response = self.call(cx, self.read(OPERATION), request, &[200]).await?;
        Ok((response.json(OPERATION)?, has_next(&response)))
    }
}

/// The id behind `Location: …/repositories/{id}`.
fn moved_to(response: &Response) -> Option<u64> {
    response.headers.get("location")?.rsplit_once("/repositories/")?.1.parse().ok()
}
